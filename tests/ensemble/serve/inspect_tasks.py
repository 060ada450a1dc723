"""Tasks that inspect runs in `test_other_clients`, in an environment of its own."""

from inspect_ai import Task, task
from inspect_ai.dataset import Sample
from inspect_ai.scorer import includes
from inspect_ai.solver import generate, use_tools
from inspect_ai.tool import Tool, tool


@tool
def run() -> Tool:
    async def execute(code: str) -> str:
        """Run code.

        Args:
            code: A program.
        """
        return f"ran {code}"

    return execute


@task
def says() -> Task:
    return Task(dataset=[Sample(input="hi", target="low"), Sample(input="ho", target="low")], scorer=includes())


@task
def calls() -> Task:
    solver = [use_tools(run()), generate(tool_calls="single")]
    return Task(dataset=[Sample(input="hi", target="low")], solver=solver, scorer=includes())
