"""The command `pcbd`: asks a gateway about pictures, watches a folder, measures, lists the defects.

pcbd detect board.png boards/ 'more/*.jpg' -p 寻找短路 -p 'find spurs'
pcbd watch /mnt/camera -p 焊锡不足 --results results.jsonl
pcbd bench board.png --rate 20 --seconds 60
pcbd defects
"""

import asyncio
import inspect
import json
import sys
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated, NoReturn

import stamina.instrumentation
import typer
from tqdm import tqdm

from gateway.answer import DetectAnswer
from gateway.client.access import access_options
from gateway.client.asking import Outcome, Question, ask_all
from gateway.client.bench import Bench
from gateway.client.client import TIMEOUT_S, URL, Client
from gateway.client.ending import ended_by_signals
from gateway.client.errors import ClientError, RefusedError
from gateway.client.folder_watch import Arrived, Folder, Results, content_of
from gateway.client.form import form_of
from gateway.client.pictures import find_pictures, shared_folder
from gateway.client.table import console, rows, table_of

OK, NG, UNREADABLE, FAILED = range(4)  # exit codes
PAUSE_S = 5.0  # before a watch asks again about a picture that it could not ask about
LONGEST_PAUSE_S = 600.0  # about one that the gateway fails at, again and again
OWN = inspect.signature(Client.detect).parameters.keys() - {"parameters"}  # which --set cannot give besides

APP = typer.Typer(
    name="pcbd",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
    help="Ask a gateway about pictures of circuit boards.",
    epilog="Exit codes: 0 all is well; 1 a board is ng (not with --ng-ok); 2 wrong usage, or a picture that cannot be "
    "read; 3 the gateway does not answer, or not as it should, after all attempts; 130 Ctrl-C.",
)

Url = Annotated[str, typer.Option("--url", envvar="PCBD_URL", help="Where the gateway is.")]
ApiKey = Annotated[
    str | None, typer.Option(envvar="PCBD_API_KEY", help="Where the gateway requires one; better in the environment.")
]
Ca = Annotated[
    Path | None,
    typer.Option(metavar="FILE", exists=True, dir_okay=False, help="Trust this authority (PEM) for an https gateway."),
]
Certificate = Annotated[
    Path | None,
    typer.Option(
        "--cert", metavar="FILE", exists=True, dir_okay=False, help="This client's certificate and key (PEM)."
    ),
]
Prompts = Annotated[
    list[str] | None,
    typer.Option("-p", "--prompt", help="What to look for, in Chinese or English; may repeat. None: the catalog."),
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="Any parameter of POST /detect: score_threshold=0.5, recipe=A7."),
]
AtOnce = Annotated[int, typer.Option("--at-once", min=1, max=64, help="Pictures at work side by side.")]
Timeout = Annotated[float, typer.Option("--timeout", min=0.001, help="Seconds for one picture, retries included.")]
Kept = Annotated[
    Path | None, typer.Option("--annotated", metavar="DIR", help="Keep each picture there with its boxes drawn in.")
]
NgOk = Annotated[bool, typer.Option("--ng-ok", help="Exit with 0 although boards are ng.")]


@APP.command()
def detect(
    images: Annotated[list[str], typer.Argument(metavar="IMAGE...", help="Files, folders, patterns in quotes.")],
    prompt: Prompts = None,
    url: Url = URL,
    api_key: ApiKey = None,
    ca: Ca = None,
    certificate: Certificate = None,
    settings: Set = None,
    at_once: AtOnce = 4,
    timeout: Timeout = TIMEOUT_S,
    annotated: Kept = None,
    as_json: Annotated[bool, typer.Option("--json", help="A line of JSON for each picture, as it is done.")] = False,
    ng_ok: NgOk = False,
) -> None:
    """Ask about pictures and show what was found."""
    pictures = find_pictures(images)
    root = Path() if annotated is None else shared_folder(pictures)
    question = Question(prompt or [], _pairs(settings), annotated, root, timeout)
    outcomes = []
    with (
        Client(url, api_key=api_key, ca=ca, certificate=certificate) as client,
        tqdm(total=len(pictures), unit="image", disable=None) as bar,
    ):
        for outcome in ask_all(pictures, lambda picture: question.ask(client, picture), at_once):
            outcomes.append(outcome)
            if as_json:
                line = json.dumps({"image": str(outcome.picture), **content_of(outcome)}, ensure_ascii=False)
                bar.write(line, file=sys.stdout)
                sys.stdout.flush()  # whoever reads the pipe has it now
            bar.update()
    if not as_json:
        place = {picture: number for number, picture in enumerate(pictures)}
        outcomes.sort(key=lambda outcome: place[outcome.picture])
        console().print(table_of(outcomes))
        for outcome in outcomes:
            if outcome.error is not None:
                console(stderr=True).print(f"{outcome.picture}: {outcome.error}", soft_wrap=True)
    raise typer.Exit(_exit_code(outcomes, ng_ok))


@APP.command()
def watch(
    folder: Annotated[Path, typer.Argument(exists=True, file_okay=False, help="Where the camera leaves its pictures.")],
    prompt: Prompts = None,
    url: Url = URL,
    api_key: ApiKey = None,
    ca: Ca = None,
    certificate: Certificate = None,
    settings: Set = None,
    results: Annotated[
        Path | None, typer.Option(help="What is done, a line of JSON each. [default: FOLDER/pcbd-results.jsonl]")
    ] = None,
    at_once: AtOnce = 2,
    timeout: Timeout = TIMEOUT_S,
    annotated: Kept = None,
    settle: Annotated[float, typer.Option(min=0, help="Seconds without change that make a file complete.")] = 1.0,
    interval: Annotated[float, typer.Option(min=0.01, help="Seconds between two looks into the folder.")] = 0.5,
    once: Annotated[bool, typer.Option("--once", help="End when everything in the folder is done.")] = False,
) -> None:
    """Ask about each picture that comes into a folder, once, until Ctrl-C or SIGTERM."""
    if annotated is not None and annotated.resolve() == folder.resolve():
        raise typer.BadParameter("it is the watched folder; give another one", param_hint="--annotated")
    question = Question(prompt or [], _pairs(settings), annotated, folder.resolve(), timeout)
    camera, out, err = Folder(folder, settle), console(), console(stderr=True)
    kept = Results(results or folder / "pcbd-results.jsonl")
    with (
        kept as done,
        Client(url, api_key=api_key, ca=ca, certificate=certificate) as client,
        ended_by_signals() as ended,
    ):
        while not ended.is_set():
            try:
                complete = {arrived.path: arrived for arrived in camera.look(done)}
            except OSError as error:  # a share that is away for a moment
                err.print(f"{folder}: {error}; it is looked into again", soft_wrap=True)
                if once:
                    raise typer.Exit(UNREADABLE) from error
                ended.wait(PAUSE_S)
                continue

            def ask(path: Path, complete: dict[Path, Arrived] = complete) -> DetectAnswer:
                return question.ask(client, path, complete[path].key(repr(question)))

            away = failed = unreadable = False
            for outcome in ask_all(list(complete), ask, at_once, ended):
                arrived, fault, pause_s = complete[outcome.picture], outcome.error, PAUSE_S
                if fault is None or _is_about_the_picture(outcome):
                    done.add(arrived, outcome)
                    out.print(_line(outcome), soft_wrap=True)
                    continue
                if isinstance(fault, OSError):  # this machine's, which holds up no other picture
                    camera.put_off(arrived, PAUSE_S, PAUSE_S)
                    unreadable = True
                elif not isinstance(fault, RefusedError) or fault.is_worth_retrying:
                    away = True
                elif fault.is_about_the_request:
                    raise fault  # every picture would be refused
                else:  # the gateway is there and fails, maybe at this picture only
                    pause_s = camera.put_off(arrived, PAUSE_S, LONGEST_PAUSE_S)
                    failed = True
                err.print(f"{outcome.picture.name}: {fault}; it is asked about again in {pause_s:g} s", soft_wrap=True)
            if once and (away or failed or unreadable):
                raise typer.Exit(FAILED if away or failed else UNREADABLE)
            if once and camera.is_settled:
                break
            ended.wait(PAUSE_S if away else interval)


@APP.command()
def bench(
    image: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="The picture that is sent.")],
    prompt: Prompts = None,
    url: Url = URL,
    api_key: ApiKey = None,
    ca: Ca = None,
    certificate: Certificate = None,
    settings: Set = None,
    seconds: Annotated[float, typer.Option(min=0.1, help="How long.")] = 30.0,
    rate: Annotated[float | None, typer.Option(min=0.01, help="Requests per second, evenly spaced.")] = None,
    concurrency: Annotated[int, typer.Option(min=1, help="Clients that ask without a pause, without --rate.")] = 4,
    timeout: Timeout = TIMEOUT_S,
) -> None:
    """Measure latency under load; one line of JSON."""
    options = access_options(api_key, ca, certificate)
    load = Bench(url, form_of([image], prompt or [], _pairs(settings)), timeout, options)
    with Client(url, api_key=api_key, ca=ca, certificate=certificate, timeout_s=timeout) as client:
        client.ready()  # who is not there is not measured
    total = round(rate * seconds) if rate else None
    with tqdm(total=total, unit="request", disable=None) as bar:
        run = load.steady(seconds, rate, bar.update) if rate else load.clients(seconds, concurrency, bar.update)
        report = asyncio.run(run)
    console().print(json.dumps({"url": url, "image": str(image), **report}), soft_wrap=True)
    raise typer.Exit(FAILED if report["errors"] else OK)


@APP.command()
def defects(
    url: Url = URL,
    api_key: ApiKey = None,
    ca: Ca = None,
    certificate: Certificate = None,
    as_json: Annotated[bool, typer.Option("--json", help="As the gateway gives it.")] = False,
) -> None:
    """List the defect catalog."""
    with Client(url, api_key=api_key, ca=ca, certificate=certificate) as client:
        catalog = client.defects()
    if as_json:
        console().print(json.dumps(catalog, ensure_ascii=False), soft_wrap=True)
        return
    table = rows("id", "english", "中文", "severity", ">threshold", ">min px", "enabled")
    for defect in catalog:
        names = (", ".join(defect["names"][language]) for language in ("en", "zh"))
        own = defect["score_threshold"]
        threshold = "checkpoint's" if own is None else f"{own:g}"
        minimum = str(defect["minimum_size_px"])
        table.add_row(
            defect["id"], *names, defect["severity"], threshold, minimum, "yes" if defect["enabled"] else "no"
        )
    console().print(table)


def _pairs(settings: list[str] | None) -> dict[str, str]:
    settings = settings or []
    wrong = [each for each in settings if not each.partition("=")[0] or "=" not in each]
    if wrong:
        raise typer.BadParameter(f"{', '.join(map(repr, wrong))}: expected NAME=VALUE", param_hint="--set")
    found = {name: value for name, _, value in (each.partition("=") for each in settings)}
    if own := sorted(OWN & found.keys()):
        raise typer.BadParameter(
            f"{', '.join(own)}: no parameter of POST /detect; pictures, words and time are arguments of their own",
            param_hint="--set",
        )
    return found


def _exit_code(outcomes: list[Outcome], ng_ok: bool) -> int:
    errors = [outcome.error for outcome in outcomes if outcome.error is not None]
    if any(not _is_unreadable(error) for error in errors):
        return FAILED
    if errors:
        return UNREADABLE
    ng = any(outcome.answer is not None and outcome.answer.verdict == "ng" for outcome in outcomes)
    return NG if ng and not ng_ok else OK


def _is_unreadable(error: ClientError | OSError) -> bool:
    return isinstance(error, OSError) or (isinstance(error, RefusedError) and error.is_about_the_request)


def _is_about_the_picture(outcome: Outcome) -> bool:
    return isinstance(outcome.error, RefusedError) and outcome.error.is_about_the_picture


def _line(outcome: Outcome) -> str:
    if outcome.answer is None:
        return f"{outcome.picture.name}  error  {outcome.error}"
    found = ", ".join(f"{each.defect or each.prompt} {each.score:.2f}" for each in outcome.answer.detections)
    return f"{outcome.picture.name}  {outcome.answer.verdict}  {found}".rstrip()


def _tell_of_retry(details: stamina.instrumentation.RetryDetails) -> None:
    console(stderr=True).print(f"{details.caused_by}; again in {details.wait_for:.1f} s", soft_wrap=True)


def _fail(error: Exception, code: int) -> NoReturn:
    console(stderr=True).print(f"error: {error}", soft_wrap=True)
    sys.exit(code)


def main() -> NoReturn:
    """Runs the command line and ends the process with its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a file's name may be no text in any encoding
    stamina.instrumentation.set_on_retry_hooks([_tell_of_retry])
    try:
        APP()
    except ClientError as error:
        _fail(error, UNREADABLE if _is_unreadable(error) else FAILED)
    except (OSError, ValueError) as error:
        _fail(error, UNREADABLE)
    sys.exit(OK)


if __name__ == "__main__":
    main()
