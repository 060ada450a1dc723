"""Opens the setting that an experiment names."""

from collections.abc import Callable
from contextlib import closing
from functools import partial

from alphamix.ensemble.experiment.schema import AgentSection, SamplingSection, ToolSection
from alphamix.ensemble.settings.agent import AgenticCoding, TerminalAgent
from alphamix.ensemble.settings.own_agent import OwnAgent
from alphamix.ensemble.settings.reasoning import Reasoning
from alphamix.ensemble.settings.setting import Setting
from alphamix.ensemble.settings.task import Agent, AgentLimits
from alphamix.ensemble.settings.tool import ToolLimits, ToolUse
from alphamix.grading.workspace import CallLimits, WorkspaceLimits, WorkspacePool

_MB = 1 << 20


def open_setting(section: SamplingSection) -> Setting:
    """Return the setting of an experiment. Its sandbox starts with the first call of an attempt. Close it.

    Raises:
        AgentImportError: the class of the agent cannot be imported or made.
    """
    if section.setting == "reasoning":
        return Reasoning(section.prompt)
    if section.setting == "tool":
        tool = section.tool
        return ToolUse(
            WorkspacePool(),
            tool.format,
            ToolLimits(tool.calls, _call_limits(tool), WorkspaceLimits(tool.memory_mb * _MB, tool.disk_mb * _MB)),
            keeps_variables=tool.keeps_variables,
            shows_tests=tool.public_tests,
            template=section.prompt,
        )
    agent = section.agent
    workspace = WorkspaceLimits(agent.memory_mb * _MB, agent.disk_mb * _MB, max_processes=agent.processes)
    return AgenticCoding(
        WorkspacePool(),
        _maker(agent),
        AgentLimits(agent.turns, agent.calls, _call_limits(agent), workspace),
        shows_tests=agent.public_tests,
        template=section.prompt,
    )


def _call_limits(section: ToolSection | AgentSection) -> CallLimits:
    return CallLimits(section.cpu_s, section.wall_s, section.output_chars)


def _maker(section: AgentSection) -> Callable[[], Agent]:
    if section.loop is not None:
        return OwnAgent(section.loop, section.arguments)
    return partial(TerminalAgent, section.format)


def check_settings(section: SamplingSection) -> None:
    """Check that the settings of an experiment can be opened, on whatever machine.

    Raises:
        AgentImportError: the class of the agent cannot be imported or made.
    """
    for name in section.settings.names:
        open_setting(section.in_setting(name)).close()


def check_workspaces(section: SamplingSection) -> None:
    """Check that this machine can do what the settings of an experiment need.

    Raises:
        WorkspaceUnavailableError: it cannot confine the code that a model writes.
    """
    if section.settings.names != ("reasoning",):
        with closing(WorkspacePool()) as pool:
            pool.check()
