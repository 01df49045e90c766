"""Uni-Mol: a transformer on atom tokens whose attention carries a representation of atom pairs.

Facts marked [U] are from Uni-Mol (Zhou et al. 2023; its code, ``unimol/models/unimol.py``,
``transformer_encoder_with_pair.py``, ``losses/unimol.py``, ``data/mask_points_dataset.py``), those
marked [G] from the GeoRecon authors' earlier code GeoRCG (``unimol_global.py`` in its ``models``,
``losses`` and ``tasks``). DEVIATION marks what differs from them.
"""

from georecon.models.unimol.encoder import UnimolEncoder as Encoder
from georecon.models.unimol.heads import PropertyHead

__all__ = ["Encoder", "PropertyHead"]
