"""Write torchmdnet_molecules.json: what torchmd-net 3.1 gives for real molecules, float64.

Run with torchmd-net importable: ``python -m tests.golden.make_torchmdnet_molecules MIRROR``.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch

from tests import torchmdnet_peer as peer


def main() -> None:
    """All molecules, both settings of the cutoff."""
    torch.set_num_threads(1)
    found = {}
    molecules = peer.qm9_molecules() | peer.md17_frames(Path(sys.argv[1]))
    for name, (z, pos) in molecules.items():
        for smooth in (False, True):
            x, vec, forces = peer.peer_outputs(z, pos, vector_cutoff=smooth)
            rows = {"x": x, "vec": vec, "forces": forces}
            found[f"{name} vector_cutoff={smooth}"] = {k: t.tolist() for k, t in rows.items()}
    text = json.dumps(found).replace('}, "', '},\n"')
    (Path(__file__).parent / "torchmdnet_molecules.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
