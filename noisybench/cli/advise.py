"""The `advise` command."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from noisybench.errors import UserError
from noisybench.utils.places import check_output_file

if TYPE_CHECKING:
    from rich.console import Console

    from noisybench.advice.choice import Choice
    from noisybench.advice.regime import Regime
    from noisybench.advice.training import AdviceTask, TrainingPlan


def advise(
    labels: Annotated[
        str | None,
        typer.Argument(
            help="Folder of images with one sub-folder per class, .parquet, .npz, .csv or features file, or recipe"
        ),
    ] = None,
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Overrides such as dataset.size=32 budget.epochs=30")
    ] = None,
    backbone: Annotated[
        str | None,
        typer.Option("--backbone", "-b", help="Pre-trained backbone on whose features everything is trained"),
    ] = None,
    budget_minutes: Annotated[
        float | None, typer.Option("--budget-minutes", min=0.1, help="Most minutes of training, without the audit")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, max=20, help="Number of runs of each stack")] = 3,
    jobs: Annotated[
        int | None,
        typer.Option("--jobs", "-j", min=1, help="Number of parallel runs (default: as many as the cores allow)"),
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Recipe to write")] = Path("advised.yaml"),
    evaluate: Annotated[
        str | None,
        typer.Option(
            help="Instead of giving advice, measure its regret over the runs of a suite, or over the `shipped` measurements"
        ),
    ] = None,
) -> None:
    """Choose a stack of mitigations for given labels: audit them, train what worked on similar noise, and write a recipe."""
    if evaluate is not None:
        if labels is not None:
            raise UserError("--evaluate: measures advice over finished runs, and takes no labels")
        _evaluate(evaluate)
        return
    if labels is None:
        raise UserError(
            "labels: name a folder, a file or a recipe, e.g. `noisybench advise my-images/`; or `--evaluate quickstart`"
        )
    _advise(labels, list(overrides or []), backbone, budget_minutes, seeds, jobs, output)


def _advise(
    labels: str,
    overrides: list[str],
    backbone: str | None,
    budget_minutes: float | None,
    seeds: int,
    jobs: int | None,
    output: Path,
) -> None:
    # Imported here because the help of the command line must not import torch.
    from noisybench.advice.candidates import rank_candidates, shortlist, usable_settings
    from noisybench.advice.training import (
        fit_budget,
        load_advice_task,
        measure_run_seconds,
        problem_of,
        recipe_text,
    )
    from noisybench.cli.advice_text import describe_choice
    from noisybench.leaderboard.measurement_tables import with_builtin
    from noisybench.leaderboard.table import build_settings
    from noisybench.tracking.equivalences import recorded_equivalences
    from noisybench.tracking.store import Store
    from noisybench.utils.console import make_console
    from noisybench.utils.outputs import write_text
    from noisybench.utils.processes import usable_cores

    check_output_file(output, (".yaml", ".yml"))
    console, store = make_console(), Store()
    store.connection.check()
    settings = usable_settings(
        build_settings(with_builtin(store.runs.records()), equivalences=recorded_equivalences(store))
    )
    if not settings:
        raise UserError(
            "no measured setting to take candidates from: it needs finished runs of cross-entropy and another stack with the "
            "same labels, such as those of `noisybench bench quickstart`"
        )
    features = _embed(console, labels, overrides, backbone, output) if backbone else None
    task = load_advice_task(labels, overrides, features)
    jobs = jobs or usable_cores()
    run_seconds = measure_run_seconds(task)
    _say(console, f"{_describe(task)}.")
    _say(console, _describe_cost(task, run_seconds, seeds, jobs))
    regime = _audit(console, task, labels, overrides, features)
    candidates, left_out = shortlist(rank_candidates(settings, regime), regime, lambda stack: problem_of(task, stack))
    for reason in left_out:
        _say(console, f"not a candidate: {reason}")
    if not candidates:
        raise UserError("no measured stack can be trained on these labels without privileged information")
    plan = fit_budget(candidates, seeds, run_seconds, jobs, None if budget_minutes is None else 60 * budget_minutes)
    _print_plan(console, plan)
    choice = _train(console, store, task, plan, jobs)
    lines = describe_choice(choice, task.redraws_splits)
    for line in lines:
        _say(console, line)
    write_text(output, recipe_text(task, choice, [*_describe_regime(regime), *lines]))
    _say(console, f"Recipe: {output.resolve()}   (noisybench run {shlex.quote(str(output))})")


def _say(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def _describe(task: AdviceTask) -> str:
    dataset = task.dataset
    return (
        f"{task.spec.dataset_label}: {len(dataset.train)} training and {len(dataset.validation)} validation labels of "
        f"{dataset.num_classes} classes, {task.spec.budget.network}, {task.spec.budget.epochs} epochs"
    )


def _describe_cost(task: AdviceTask, run_seconds: float, seeds: int, jobs: int) -> str:
    """Return what the advice costs, before its candidates are known."""
    from noisybench.advice.candidates import NUM_CANDIDATES
    from noisybench.utils.durations import format_duration

    runs = (1 + NUM_CANDIDATES) * seeds
    # An audit trains three networks on two thirds of the labels each; on features it fits regressions.
    audit = (
        "an audit" if task.spec.dataset.name == "features" else f"an audit of about {format_duration(2 * run_seconds)}"
    )
    total = format_duration(runs * run_seconds / min(jobs, runs))
    return (
        f"A run of cross-entropy takes about {format_duration(run_seconds)} here. The advice costs {audit} and about {runs} "
        f"runs: {total} if the candidates are as fast as cross-entropy, which the next lines say."
    )


def _embed(console: Console, labels: str, overrides: list[str], backbone: str, output: Path) -> Path:
    """Compute the features of the images, and return their file beside the recipe."""
    from noisybench.audit.inputs import audit_spec
    from noisybench.backbones import load_backbone
    from noisybench.cli import console as view
    from noisybench.embedding.embed import choose_device, embed_dataset, save_features

    network = load_backbone(backbone)
    spec, _ = audit_spec(labels, overrides)
    if spec.dataset.name == "features":
        raise UserError("--backbone: the labels come with features already; leave the option out")
    path = output.with_name(f"{output.stem}-features.npz")
    check_output_file(path)
    with view.step_progress(console):
        save_features(embed_dataset(spec.dataset.build(), network, choose_device("auto")), path)
    _say(console, f"Features of {backbone}: {path}")
    return path


def _audit(console: Console, task: AdviceTask, labels: str, overrides: list[str], features: Path | None) -> Regime:
    """Estimate rate and structure of the noise."""
    from tempfile import TemporaryDirectory

    import yaml

    from noisybench.advice.regime import Regime, structure_of
    from noisybench.advice.training import specification
    from noisybench.audit.audit import audit_labels
    from noisybench.audit.inputs import load_audit_input
    from noisybench.utils.processes import usable_cores

    threads = f"execution.num_threads={usable_cores()}"
    if features is not None and task.own_data:
        audit_input = load_audit_input(str(features))
    elif features is not None:
        # The audit reads recipes: this one has the noise of the given recipe on the features of its images.
        with TemporaryDirectory(prefix="noisybench-") as folder:
            path = Path(folder) / "features.yaml"
            path.write_text(yaml.safe_dump(specification(task.spec)), encoding="utf-8")
            audit_input = load_audit_input(str(path))
    else:
        audit_input = load_audit_input(labels, [*overrides, threads])
    with console.status("Auditing the labels ..."):
        result = audit_labels(audit_input).result
    size, classes = len(task.dataset.train), task.dataset.num_classes
    on_features = task.spec.dataset.name == "features"
    structure = structure_of(result.transition_matrix)
    regime = Regime(result.noise_rate, None if result.noise_rate is None else structure, size, classes, on_features)
    for line in _describe_regime(regime, result.reliability.rate_interval, result.reliability.problem):
        _say(console, line)
    return regime


def _describe_regime(
    regime: Regime, interval: tuple[float, float] | None = None, problem: str | None = None
) -> list[str]:
    if regime.noise_rate is None:
        reason = f": {problem}" if problem else ""
        return [f"No estimate of the noise rate{reason}. Candidates are taken from all noise rates, and are more."]
    shown = f" [{100 * interval[0]:.1f}, {100 * interval[1]:.1f}]" if interval else ""
    structures = {
        "concentrated": "errors of a class mostly go to one other class",
        "spread": "errors of a class are spread over several others",
        None: "structure unknown",
    }
    return [f"Estimated noise rate: {100 * regime.noise_rate:.1f} %{shown}; {structures[regime.structure]}."]


def _print_plan(console: Console, plan: TrainingPlan) -> None:
    from noisybench.utils.durations import format_duration

    for candidate in plan.candidates:
        _say(
            console,
            f"candidate: {candidate.stack}: expected {100 * candidate.gain:+.1f} points over cross-entropy, from "
            f"{candidate.settings} measured settings; a run takes {candidate.relative_cost:.1f} times as long",
        )
    _say(
        console,
        f"Training {plan.num_runs} runs, {plan.replicates} of each candidate and of cross-entropy: about "
        f"{format_duration(plan.seconds)}.",
    )


def _train(console: Console, store: object, task: AdviceTask, plan: TrainingPlan, jobs: int) -> Choice:
    """Train the candidates beside cross-entropy, and choose by noisy validation."""
    from noisybench.advice.choice import choose
    from noisybench.advice.training import replicates
    from noisybench.cli import limits
    from noisybench.cli.run import train_session
    from noisybench.execution.session import Session
    from noisybench.execution.suite_runner import make_plan
    from noisybench.leaderboard.verdict import BASELINE
    from noisybench.tracking.equivalences import recorded_equivalences
    from noisybench.tracking.store import Store
    from noisybench.utils.processes import usable_cores

    assert isinstance(store, Store)
    stacks = {
        stack: replicates(task, stack, plan.replicates) for stack in (BASELINE, *(c.stack for c in plan.candidates))
    }
    # Replicates outermost, so that an interrupted command has comparable runs of all stacks.
    specs = [specs[number] for number in range(plan.replicates) for specs in stacks.values()]
    records = store.runs.records()
    equivalences = recorded_equivalences(store)
    runs = make_plan(specs, records, equivalences, cores=usable_cores())
    session = Session(store, runs, records, equivalences)
    result = train_session(session, jobs, console)
    limits.exit_after(result, console)
    finished = {record.identity: record for record in reversed(session.records)}
    finished |= {identity: record for identity, record in runs.equivalent.items() if identity not in finished}
    scores: dict[str, dict[int, float]] = {}
    costs: dict[str, float] = {}
    for stack, specs in stacks.items():
        own = [(number, finished[spec.identity]) for number, spec in enumerate(specs) if spec.identity in finished]
        values = {number: record.rows[-1].noisy_val_score for number, record in own}
        scores[stack] = {number: value for number, value in values.items() if value is not None}
        costs[stack] = sum(record.cost.wall_seconds for _, record in own) / max(len(own), 1)
    if not any(scores.values()):
        raise UserError(
            "no run has a score on noisy validation labels, so that nothing can be chosen; run the command again"
        )
    gains = {candidate.stack: candidate.gain for candidate in plan.candidates}
    return choose(scores, costs, gains, 1 / len(task.dataset.validation))


def _evaluate(suite: str) -> None:
    """Print the regret of advice over the runs of a suite, or over the measurements that ship with noisybench."""
    from rich.table import Table

    from noisybench.advice.choice import MIN_INTERVAL_REPLICATES
    from noisybench.advice.evaluation import evaluate_advice, regret_table
    from noisybench.leaderboard.measurement_tables import SHIPPED, builtin_measurements
    from noisybench.leaderboard.rounding import fixed
    from noisybench.leaderboard.stored import measurements_of
    from noisybench.leaderboard.table import build_settings
    from noisybench.utils.console import make_console

    measured = builtin_measurements()
    if suite == SHIPPED:
        evaluation = evaluate_advice(build_settings(measured))
    else:
        own, _, equivalences = measurements_of(suite)
        targets = build_settings(own, equivalences=equivalences)
        evaluation = evaluate_advice([*build_settings(measured), *targets], targets)
    if not evaluation.settings:
        raise UserError("--evaluate: no setting has cross-entropy and two more stacks without privileged information")
    console = make_console()
    titles, *rows = regret_table(evaluation)
    table = Table(*titles, box=None, header_style="bold")
    for row in rows:
        table.add_row(*row)
    console.print(table)
    for title, best, advised in evaluation.settings:
        _say(console, f"{title}: best {best}, advised {advised}")
    _say(
        console,
        "Regret: points of the final test score below the best stack of each setting, which took no part in the advice on it. "
        "Without other rates: mean regret if no setting of the same data and noise model took part, at whatever rate.",
    )
    if (gain := evaluation.against_average) is not None:
        known = gain.low is not None and gain.high is not None and gain.count >= MIN_INTERVAL_REPLICATES
        interval = (
            f" [{fixed(gain.low or 0, 1, 100)}, {fixed(gain.high or 0, 1, 100)}]"
            if known
            else " (too few for an interval)"
        )
        _say(
            console,
            f"Advice against the best stack on average: {100 * gain.mean:+.1f} points{interval} over {gain.count} settings.",
        )
