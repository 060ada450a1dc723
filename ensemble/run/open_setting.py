"""Opens the setting that an experiment names."""

from contextlib import closing

from alphamix.ensemble.experiment.schema import SamplingSection
from alphamix.ensemble.settings.reasoning import Reasoning
from alphamix.ensemble.settings.setting import Setting
from alphamix.ensemble.settings.tool import ToolLimits, ToolUse
from alphamix.grading.workspace import CallLimits, WorkspaceLimits, WorkspacePool

_MB = 1 << 20


def open_setting(section: SamplingSection) -> Setting:
    """Return the setting of an experiment. Its sandbox starts with the first call of an attempt. Close it."""
    if section.setting == "reasoning":
        return Reasoning(section.prompt)
    tool = section.tool
    return ToolUse(
        WorkspacePool(),
        tool.format,
        ToolLimits(
            tool.calls,
            CallLimits(tool.cpu_s, tool.wall_s, tool.output_chars),
            WorkspaceLimits(tool.memory_mb * _MB, tool.disk_mb * _MB),
        ),
        keeps_variables=tool.keeps_variables,
        shows_tests=tool.public_tests,
        template=section.prompt,
    )


def check_setting(section: SamplingSection) -> None:
    """Check that this machine can do what the setting needs.

    Raises:
        WorkspaceUnavailableError: it cannot confine the code that a model writes.
    """
    if section.setting != "reasoning":
        with closing(WorkspacePool()) as pool:
            pool.check()
