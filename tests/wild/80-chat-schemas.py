"""Traces as fine-tuning sets come.

OpenAI messages, ShareGPT conversations, Alpaca, prompt/completion, question/answer (GSM8K's own).
InternScience/GraphGen#43, nestordemeure/question_extractor#4, alisawuffles/proxy-tuning#6.
"""

from __future__ import annotations

import json

from wild import create_labels, scratch, verdict


def main() -> None:
    root = scratch("80")
    bad = []
    pairs = [
        (f"Ann has {n} clips and buys 3.", f"{n}+3 = <<{n}+3={n + 3}>>{n + 3} clips.\n#### {n + 3}") for n in range(40)
    ]
    kinds = {
        "messages": lambda p, r: {"messages": [{"role": "user", "content": p}, {"role": "assistant", "content": r}]},
        "conversations": lambda p, r: {"conversations": [{"from": "human", "value": p}, {"from": "gpt", "value": r}]},
        "alpaca": lambda p, r: {"instruction": p, "input": "", "output": r},
        "completion": lambda p, r: {"prompt": p, "completion": r},
        "question": lambda p, r: {"question": p, "answer": r},
    }
    for name, make in kinds.items():
        (root / f"{name}.jsonl").write_text("\n".join(json.dumps(make(*each)) for each in pairs))
        status, _ = create_labels(
            root / f"l-{name}",
            "traced_addition",
            "dataset=trace_file",
            f"dataset.path={root / f'{name}.jsonl'}",
            "noise=cot_static",
        )
        if status:
            bad.append(f"{name} ({status})")
    verdict(not bad, "not read: " + ", ".join(bad) if bad else "all read")


if __name__ == "__main__":
    main()
