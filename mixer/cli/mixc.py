"""``mixc``: call a Mixer as a proxy does, and try expressions. Source: spec runtime 7.7."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import IO, Any

import click
import grpc
import grpc.aio
from rich.console import Console
from rich.table import Table

from mixer import __version__
from mixer.adapters.base import Code
from mixer.api import messages
from mixer.api.encode import encode_check, encode_report
from mixer.api.referenced import decode_referenced
from mixer.api.service import MixerStub, awaitable
from mixer.attributes import AttributeValue, Duration, MappingBag, TrackingBag, ValueType, Vocabulary
from mixer.attributes.values import ABSENT
from mixer.cli.attributes import attribute_options, pairs, parse_int, read_attributes
from mixer.cli.options import CONTEXT
from mixer.cli.tls import client_tls, client_tls_options
from mixer.errors import CertificateError, EvalError, ExprError, WireError
from mixer.expr import compile_expr
from mixer.expr.jsonform import evaluate_case, references_to_json, value_to_json, vocabulary_from_json
from mixer.tls import ClientCertificates, channel_options


@click.group(context_settings=CONTEXT)
@click.version_option(__version__, "-V", "--version", prog_name="mixc")
def main() -> None:
    """Mixer's client side: send what a proxy would send, and see what it would get.

    \b
    mixc check  -s destination.service.host=ratings,request.path=/ -q requestcount=1
    mixc report -a context.protocol=http,response.code=200 --duration_attributes response.duration=12ms
    mixc eval   'request.size | 0' -i request.size=17
    """  # noqa: D301  click wants the character


def rpc_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The flags that check and report share."""
    options = (
        click.option("-m", "--mixer", default="127.0.0.1:9091", show_default=True, help="Address of Mixer: host:port or unix:///path."),
        click.option("-r", "--repeat", default=1, show_default=True, type=click.IntRange(1), help="Calls of each worker."),
        click.option("-c", "--concurrency", default=1, show_default=True, type=click.IntRange(1), help="Workers."),
        click.option("--rate", default=-1.0, show_default=True, help="Calls a second over all workers; negative = as fast as it goes."),
        click.option("--timeout", default=10.0, show_default=True, help="Seconds that one call may take."),
        click.option("--print_response/--no-print_response", "--print-response/--no-print-response", "print_response", default=True,
                     help="Print each answer."),
        click.option("--fail-on-error/--no-fail-on-error", default=False, show_default=True,
                     help="Exit 1 when a call fails; a denial is no failure."),
    )  # fmt: skip
    command = client_tls_options("tls")(command)
    for option in reversed(options):
        command = option(command)
    return attribute_options(command)


@main.command()
@rpc_options
@click.option("-q", "--quotas", multiple=True, metavar="NAME=AMOUNT,...", help="Quotas to take from, best effort.")
def check(quotas: tuple[str, ...], **flags: Any) -> None:
    """Ask whether a request with these attributes may pass."""
    values = read_attributes(flags)
    amounts: dict[str, int] = {}
    for text in quotas:
        for name, amount in pairs(text, "--quotas").items():
            try:
                amounts[name] = parse_int(amount)
            except ValueError as exc:
                raise click.BadParameter(f"quota {name}: {exc}", param_hint="--quotas") from exc
    params = {name: messages.QuotaParams(amount=amount, best_effort=True) for name, amount in amounts.items()}
    salt = time.time_ns()

    async def call(stub: MixerStub, number: int) -> None:
        request = _encoded(
            lambda: encode_check(values, quotas=params, deduplication_id=str(salt + number), global_word_count=0)
        )
        response: messages.CheckResponse = await awaitable(stub.Check(request, timeout=flags["timeout"]))
        if flags["print_response"]:
            _print_check(response)

    _drive("Check", call, flags, calls=flags["repeat"])


@main.command()
@rpc_options
@click.option(
    "--report_batch_size",
    "--report-batch-size",
    "batch",
    default=1,
    show_default=True,
    type=click.IntRange(1),
    help="Records in one call; --repeat counts records.",
)
def report(batch: int, **flags: Any) -> None:
    """Report a request with these attributes."""
    values = read_attributes(flags)
    repeat: int = flags["repeat"]

    async def call(stub: MixerStub, number: int) -> None:
        records = [values] * min(batch, repeat - number * batch)
        request = _encoded(lambda: encode_report(records, delta=True, global_word_count=0))
        await awaitable(stub.Report(request, timeout=flags["timeout"]))
        if flags["print_response"]:
            click.echo("Report RPC returned OK")

    _drive("Report", call, flags, calls=-(-repeat // batch))


def _encoded(encode: Callable[[], Any]) -> Any:
    try:
        return encode()
    except (ValueError, TypeError, WireError) as exc:
        raise click.ClickException(f"cannot be sent: {exc}") from exc


def _drive(
    method: str, call: Callable[[MixerStub, int], Awaitable[None]], flags: dict[str, Any], *, calls: int
) -> None:
    """Run every worker's calls; RPC failures are told and counted, nothing is retried."""
    tls = client_tls("tls", flags, flags["mixer"])
    try:
        certificates = ClientCertificates(tls) if tls is not None else None
    except CertificateError as exc:
        raise click.ClickException(str(exc)) from exc
    failures = asyncio.run(_workers(method, call, flags, calls, certificates))
    if failures and flags["fail_on_error"]:
        sys.exit(1)


async def _workers(
    method: str,
    call: Callable[[MixerStub, int], Awaitable[None]],
    flags: dict[str, Any],
    calls: int,
    certificates: ClientCertificates | None,
) -> int:
    rate, workers = flags["rate"], flags["concurrency"]
    pause_s = workers / rate if rate > 0 else 0.0
    failures = 0
    address = flags["mixer"].removeprefix("tcp://")
    async with _channel(address, certificates) as channel:
        stub = MixerStub(channel)

        async def work(worker: int) -> None:
            nonlocal failures
            for number in range(calls):
                started = time.monotonic()
                try:
                    await call(stub, worker * calls + number if workers > 1 else number)
                except grpc.aio.AioRpcError as exc:
                    failures += 1
                    why = exc.details()
                    if certificates is not None and exc.code() is grpc.StatusCode.UNAVAILABLE:
                        why = await certificates.fault_of(address) or why
                    click.echo(f"{method} RPC failed with: {exc.code().name} ({why})", err=True)
                if pause_s:
                    await asyncio.sleep(max(0.0, pause_s - (time.monotonic() - started)))

        await asyncio.gather(*(work(worker) for worker in range(workers)))
    return failures


def _channel(address: str, certificates: ClientCertificates | None) -> grpc.aio.Channel:
    if certificates is None:
        return grpc.aio.insecure_channel(address)
    return grpc.aio.secure_channel(address, certificates.credentials(), options=channel_options(certificates))


def _span(message: messages.WireDuration) -> Duration:
    return Duration(message.seconds * 10**9 + message.nanos)


def _status(status: messages.Status) -> str:
    """``OK``, or the name of the code with the message."""
    try:
        name = Code(status.code).name
    except ValueError:
        name = f"code {status.code}"
    return f"{name} ({status.message})" if status.message else name


def _print_check(response: messages.CheckResponse) -> None:
    precondition = response.precondition
    text = _status(precondition.status)
    click.echo(f"Check RPC completed successfully. Check status was {text}")
    click.echo(
        f"  Valid use count: {precondition.valid_use_count}, valid duration: {_span(precondition.valid_duration)}"
    )
    click.echo("  Referenced Attributes")
    for (attribute, key), condition in sorted(decode_referenced(precondition.referenced_attributes).items()):
        click.echo(f"    {attribute}{f'::{key}' if key else ''} {condition.name}")
    if precondition.HasField("route_directive"):
        directive = precondition.route_directive
        if directive.direct_response_code:
            click.echo(f"  Direct response: {directive.direct_response_code} {directive.direct_response_body}")
        for where, operations in (
            ("Request", directive.request_header_operations),
            ("Response", directive.response_header_operations),
        ):
            for operation in operations:
                kind = messages.HeaderOperation.Operation.Name(operation.operation)
                click.echo(f"  {where} header {kind} {operation.name}: {operation.value}")
    if response.quotas:
        table = Table("Quota", "Granted Amount", "Duration", box=None)
        for quota, result in sorted(response.quotas.items()):
            table.add_row(quota, str(result.granted_amount), str(_span(result.valid_duration)))
        Console(file=sys.stdout).print(table)
        for quota, result in sorted(response.quotas.items()):
            if result.status.code:  # else it looks like one that is used up
                click.echo(f"  Quota {quota} failed: {_status(result.status)}")


@main.command("eval")
@click.argument("expression", required=False)
@click.option(
    "--jsonl",
    type=click.File("rb"),
    metavar="FILE|-",
    help="A batch: one JSON object a line; see docs/reference.",
)
@click.option("--type", "types", multiple=True, metavar="NAME=TYPE,...", help="Declare attributes that have no value.")
@attribute_options
def eval_command(expression: str | None, jsonl: IO[bytes] | None, types: tuple[str, ...], **flags: Any) -> None:
    """Evaluate EXPRESSION over the given attributes; print value, type and what was looked at.

    The attributes given are the vocabulary: -s declares STRING, -i INT64 and so on; --type declares more, or
    another type for a name (IP_ADDRESS for bytes, URI for text ...).
    """
    if (expression is None) == (jsonl is None):
        raise click.UsageError("give either EXPRESSION or --jsonl")
    if jsonl is not None:
        _eval_lines(jsonl)
        return
    values = read_attributes(flags)
    declared = {name: _type_of(value) for name, value in values.items()}
    for text in types:
        for name, kind in pairs(text, "--type").items():
            if kind not in ValueType.__members__:
                raise click.BadParameter(f"{kind!r} is none of {', '.join(ValueType.__members__)}", param_hint="--type")
            declared[name] = ValueType[kind]
    _eval_one(str(expression), values, Vocabulary(declared))


def _type_of(value: AttributeValue) -> ValueType:
    by_class = {
        str: ValueType.STRING, bool: ValueType.BOOL, int: ValueType.INT64, float: ValueType.DOUBLE,
        bytes: ValueType.IP_ADDRESS, dict: ValueType.STRING_MAP, Duration: ValueType.DURATION,
    }  # fmt: skip
    return by_class.get(type(value), ValueType.TIMESTAMP)


def _eval_one(expression: str, values: dict[str, AttributeValue], vocabulary: Vocabulary) -> None:
    try:
        program = compile_expr(expression, vocabulary)
    except ExprError as exc:
        raise click.ClickException(exc.pretty()) from exc
    bag = TrackingBag(MappingBag(values))
    failure = ""
    value: object = ABSENT
    try:
        value = value_to_json(program.type, program.evaluate(bag))
    except EvalError as exc:
        failure = str(exc)
    click.echo(f"error: {failure}" if failure else json.dumps(value, ensure_ascii=False))
    click.echo(f"type: {program.type.name}")
    for reference in references_to_json(bag):
        click.echo(f"referenced: {reference}")
    if failure:
        sys.exit(1)


def _eval_lines(lines: Iterable[bytes]) -> None:
    vocabulary: Vocabulary | None = None
    first = True
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            request = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
            if not isinstance(request, dict):
                raise ValueError("expected an object")
            if first and "expr" not in request and "vocab" in request:
                vocabulary = vocabulary_from_json(request["vocab"])
                continue
            answer = _json_line(evaluate_case(request, vocabulary))
        except (ValueError, RecursionError) as exc:
            answer = _json_line({"id": None, "error": f"line {number}: {exc}"})
        finally:
            first = False
        click.echo(answer)


def _json_line(answer: dict[str, Any]) -> str:
    text = json.dumps(answer, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:  # half a UTF-16 pair, which only an escape can write
        return json.dumps(answer)
    return text


if __name__ == "__main__":
    main()
