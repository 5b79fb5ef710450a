"""Score recordings with trained runs, and write a submission, a CSV table, Raven tables or Audacity labels."""

from collections.abc import Sequence

from inference.options import parse
from utils.command import run_command


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(__doc__, arguments)
    from inference import steps  # it imports torch, which takes seconds: not for --help
    from inference.outputs import resolve_outputs
    from reports.detections import write_report

    options = resolve_outputs(options)
    recordings = steps.find(options)
    predictor = steps.load(options)
    sample = steps.read_sample(options, predictor, recordings)
    with steps.open_store(options, predictor) as store:
        scored = steps.score(predictor, recordings, store, steps.expansions_of(options, recordings))
        fails = options.strict and (len(scored) < len(recordings) or any(store.problems(scored)))
        steps.write(options, predictor, recordings, scored, store, sample)
        if options.report is not None:
            write_report(options.report, **steps.contents_of_report(options, predictor, scored, store))
        store.remove()
    print(f"written: {options.output}")
    return 1 if fails else 0


if __name__ == "__main__":
    run_command(main)
