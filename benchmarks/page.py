"""Write the measured part of docs/performance.md from the JSON files in benchmarks/results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from georecon.files import atomic_path, read_json

ROOT = Path(__file__).resolve().parents[1]
PAGE, RESULTS = ROOT / "docs/performance.md", ROOT / "benchmarks/results"
BEGIN, END = "<!-- measured: begin (make bench) -->", "<!-- measured: end -->"
RATIOS = {"ratio": "float32", "ratio_bf16": "bf16"}


def steps(report: dict[str, Any]) -> list[str]:
    """Table of train_step.py: rates, ratios with quartiles, share of the ceiling, memory."""
    compute = report["compute"]
    lines = [
        f"Training steps, {compute['name']}, {compute['threads']} threads, kernel "
        f"{compute['kernel']}, torch {report['torch']}; large matrix products run at "
        f"{report['product_ceiling_gflops']:.0f} GFLOP/s here.",
        "",
        "| step | ours [molecules/s] | bf16 | torchmd-net | ratio (quartiles) | flushed "
        "| bf16 ratio | share of product ceiling | memory, ours / theirs [MB] |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name, case in report["cases"].items():
        rates, quartiles, memory = (
            case[key] for key in ("molecules_per_second", "quartiles", "peak_memory_mb")
        )
        cells = [name, *(rate(rates, key) for key in ("ours", "ours_bf16", "peer"))]
        cells += [ratio(quartiles, key) for key in ("ratio", "ratio_flushed", "ratio_bf16")]
        share = case["share_of_product_ceiling"]
        cells += ["–" if share is None else f"{share:.0%}"]
        cells += [" / ".join(f"{memory[key]:.0f}" for key in ("ours", "peer") if key in memory)]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def rate(rates: dict[str, float], key: str) -> str:
    return f"{rates[key]:.0f}" if key in rates else "–"


def ratio(quartiles: dict[str, list[float]], key: str) -> str:
    if key not in quartiles:
        return "–"
    low, median, high = quartiles[key]
    return f"{median:.1f} ({low:.1f}–{high:.1f})"


def sdf(report: dict[str, Any]) -> list[str]:
    """What sdf.py measured of the SDF reader."""
    return [
        f"SDF reader against RDKit on the same file: {report['ratio_per_core']:.1f} × on one core, "
        f"{report['ratio_two_cores']:.1f} × on two, {report['fraction_of_decompression']:.2f} of "
        f"plain decompression; {report['projected_minutes']:.1f} minutes projected for the "
        "3,378,606 records of PCQM4Mv2.",
    ]


def main() -> None:
    """Replace what stands between the two marks."""
    text = PAGE.read_text(encoding="utf-8")
    head, rest = text.split(BEGIN)
    _, tail = rest.split(END)
    parts: list[str] = []
    for name, write in (("train_step", steps), ("sdf", sdf)):
        if (RESULTS / f"{name}.json").exists():
            parts += ["", *write(read_json(RESULTS / f"{name}.json"))]
    with atomic_path(PAGE) as temporary:
        temporary.write_text("\n".join([head + BEGIN, *parts, "", END + tail]), encoding="utf-8")


if __name__ == "__main__":
    main()
