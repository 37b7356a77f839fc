"""An adapter as a process of its own: admits names that are on a guest list, so many times each."""

from collections import Counter

from mixer.sdk import AdapterInfo, CheckResult, Code, Duration, Handler, Params, Status, serve
from mixer.templates import LISTENTRY
from mixer.templates.listentry import ListEntryInstance


class VisitorsParams(Params):
    """What an operator says."""

    guests: list[str] = []
    """Who may come in."""
    visits: int = 0
    """How often each may; 0, the default: always."""


class Visitors(Handler):
    """Judges one visitor after the other."""

    def __init__(self, params: VisitorsParams) -> None:
        self.params = params
        self.seen: Counter[str] = Counter()

    def handle_check(self, instance: ListEntryInstance) -> CheckResult:
        """Whether a name may come in."""
        name = str(instance.value)
        self.seen[name] += 1
        if name not in self.params.guests:
            return CheckResult(Status(Code.PERMISSION_DENIED, f"{name} is not on the list"), Duration.parse("5s"), 100)
        if self.params.visits and self.seen[name] > self.params.visits:
            return CheckResult(Status(Code.RESOURCE_EXHAUSTED, f"{name} was here {self.params.visits} times"))
        return CheckResult(valid_duration=Duration.parse("1s"), valid_use_count=1)


async def build(params: VisitorsParams, instances: object, env: object) -> Visitors:
    """A handler for what an operator says."""
    return Visitors(params)


INFO = AdapterInfo("visitors", (LISTENTRY,), VisitorsParams, build, description="Admits who is on the guest list.")

if __name__ == "__main__":
    serve(INFO)
