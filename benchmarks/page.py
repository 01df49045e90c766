"""Write the measured part of docs/performance.md from the JSON files in benchmarks/results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from georecon.files import atomic_path, read_json

ROOT = Path(__file__).resolve().parents[1]
PAGE, RESULTS = ROOT / "docs/performance.md", ROOT / "benchmarks/results"
BEGIN, END = "<!-- measured: begin (make bench) -->", "<!-- measured: end -->"
RATIOS = ("ratio", "ratio_flushed", "ratio_bf16", "ratio_bf16_flushed")


def steps(report: dict[str, Any]) -> list[str]:
    """Tables of train_step.py: rates and ratios with quartiles; shares of ceilings, memory."""
    compute = report["compute"]
    lines = [
        f"Training steps, {compute['name']}, {compute['threads']} threads, kernel "
        f"{compute['kernel']} ({compute.get('instruction_set')}), torch {report['torch']}; "
        "large matrix products run at "
        f"{report['product_ceiling_gflops']:.0f} GFLOP/s here, a large copy at "
        f"{report['memory_ceiling_gbs']:.0f} GB/s.",
        "",
        "| step | ours [molecules/s] | bf16 | torchmd-net | ratio (quartiles) | flushed "
        "| bf16 ratio | bf16, flushed |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name, case in report["cases"].items():
        rates, quartiles = case["molecules_per_second"], case["quartiles"]
        cells = [name, *(rate(rates, key) for key in ("ours", "ours_bf16", "peer"))]
        cells += [ratio(quartiles, key) for key in RATIOS]
        lines.append("| " + " | ".join(cells) + " |")
    lines += [
        "",
        "| step | products, share of ceiling | arrays read and written, ours / theirs [MB/molecule]"
        " | share of memory ceiling | peak memory, ours / theirs [MB] |",
        "|---|---:|---:|---:|---:|",
    ]
    for name, case in report["cases"].items():
        share, traffic = case["share_of_product_ceiling"], case["traffic_mb_per_molecule"]
        cells = [name, "–" if share is None else f"{share:.0%}", both(traffic)]
        cells += [f"{case['share_of_memory_ceiling']:.0%}", both(case["peak_memory_mb"])]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def both(numbers: dict[str, float]) -> str:
    found = (numbers[key] for key in ("ours", "peer") if key in numbers)
    return " / ".join(f"{x:.0f}" if x >= 100 else f"{x:.2g}" for x in found)


def growth(report: dict[str, Any]) -> list[str]:
    """Table of growth.py: cost of an atom by what is varied."""
    lines = [
        "Cost of an energy step in µs an atom about 64 channels, 3 layers, 64 molecules of QM9, "
        "all cores; one size varied at a time; larger molecules are aspirins in a row.",
        "",
        "| varied | value | ours | torchmd-net, flushed |",
        "|---|---:|---:|---:|",
    ]
    for row in report["microseconds_per_atom"]:
        costs = [f"{row[key]:.1f}" if key in row else "–" for key in ("ours", "peer_flushed")]
        lines.append("| " + " | ".join([row["axis"], str(row["value"]), *costs]) + " |")
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
    for name, write in (("train_step", steps), ("growth", growth), ("sdf", sdf)):
        if (RESULTS / f"{name}.json").exists():
            parts += ["", *write(read_json(RESULTS / f"{name}.json"))]
    with atomic_path(PAGE) as temporary:
        temporary.write_text("\n".join([head + BEGIN, *parts, "", END + tail]), encoding="utf-8")


if __name__ == "__main__":
    main()
