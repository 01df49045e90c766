"""Write the measured part of docs/performance.md from the JSON files in benchmarks/results."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from georecon.files import atomic_path, read_json

ROOT = Path(__file__).resolve().parents[1]
PAGE, RESULTS = ROOT / "docs/performance.md", ROOT / "benchmarks/results"
BEGIN, END = "<!-- measured: begin (make bench) -->", "<!-- measured: end -->"
RATIOS = ("ratio", "ratio_flushed", "ratio_bf16", "ratio_bf16_flushed")


def steps(report: dict[str, Any]) -> list[str]:
    """Tables of train_step.py: rates and ratios with quartiles; shares of ceilings, memory."""
    lines = [
        f"### {processor(report)}",
        "",
        f"Training steps, {report['compute']['threads']} threads, kernel "
        f"{report['compute']['kernel']}, torch {report['torch']}, {when(report)}; "
        "large matrix products run at "
        f"{report['product_ceiling_gflops']:.0f} GFLOP/s here, a large copy at "
        f"{report['memory_ceiling_gbs']:.0f} GB/s.{limits(report)}",
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


def processor(report: dict[str, Any]) -> str:
    """Processor and what the kernels are compiled for."""
    compute = report["compute"]
    name = compute["name"].replace("(R)", "")
    found = compute.get("instruction_set")
    return f"{name}, {found}" if found else str(name)


def when(report: dict[str, Any]) -> str:
    return f"{report['date']}, commit {report['commit']}"


def limits(report: dict[str, Any]) -> str:
    """Says so where a processor was told to be another one."""
    if not report.get("limited_to"):
        return ""
    names = ", ".join(f"{name}={value}" for name, value in report["limited_to"].items())
    return f" A processor without AVX-512 is simulated, for both: {names}."


def laptop_steps(report: dict[str, Any]) -> list[str]:
    """Table of laptop_step.py: molecules per CPU-second of two commits."""
    lines = [
        f"Training at the laptop edition's sizes, {processor(report)}, {when(report)}, against "
        f"commit {report['before']} in the same run: the loop's whole step with its optimiser, "
        f"molecules per CPU-second of one thread.{limits(report)}",
        "",
        "| step | before | now | ratio (quartiles) |",
        "|---|---:|---:|---:|",
    ]
    for name, case in report["cases"].items():
        rates, (low, middle, high) = case["molecules_per_cpu_second"], case["ratio"]
        cells = [name, f"{rates['before']:.0f}", f"{rates['now']:.0f}"]
        lines.append("| " + " | ".join([*cells, f"{middle:.2f} ({low:.2f}–{high:.2f})"]) + " |")
    return lines


def floors(report: dict[str, Any]) -> list[str]:
    """Table of floor.py: what of a step its products and kernels take."""
    lines = [
        f"Parts of a step, {processor(report)}, {report['compute']['threads']} threads, "
        f"{when(report)}: its matrix products at their real shapes, each timed alone, and its "
        "kernels. Products and kernels are the floor, reached if all else cost nothing; its share "
        f"is of the ceiling of large products.{limits(report)}",
        "",
        "| step | time [ms] | products [ms] (GFLOP/s) | kernels [ms] | floor [ms] (share) "
        "| operations |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name, case in report["cases"].items():
        kernels = sum(case["kernels_ms"].values())
        lines.append(
            f"| {name} | {case['step_ms']:.1f} "
            f"| {case['products_ms']:.1f} ({case['products_gflops']:.0f}) | {kernels:.1f} "
            f"| {case['floor_ms']:.1f} ({case['share_at_floor']:.0%}) | {case['operations']} |"
        )
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


SECTIONS: tuple[tuple[str, Callable[[dict[str, Any]], list[str]]], ...] = (
    ("train_step", steps),
    ("floor", floors),
    ("laptop_step", laptop_steps),
    ("growth", growth),
    ("sdf", sdf),
)


def main() -> None:
    """Replace what stands between the two marks."""
    text = PAGE.read_text(encoding="utf-8")
    head, rest = text.split(BEGIN)
    _, tail = rest.split(END)
    parts: list[str] = []
    for name, write in SECTIONS:
        for path in sorted(RESULTS.glob(f"{name}*.json")):
            parts += ["", *write(read_json(path))]
    with atomic_path(PAGE) as temporary:
        temporary.write_text("\n".join([head + BEGIN, *parts, "", END + tail]), encoding="utf-8")


if __name__ == "__main__":
    main()
