"""Uni-Mol: a transformer on atom tokens whose attention carries a representation of atom pairs.

Facts marked [U] are from Uni-Mol (Zhou et al. 2023, and its code: the modules ``unimol`` of its
models, losses and tasks, ``transformer_encoder_with_pair`` and ``mask_points_dataset``), those
marked [G] from the GeoRecon authors' earlier code GeoRCG (the modules ``unimol_global`` of the same
folders). DEVIATION marks what differs from them.
"""

from georecon.models.unimol.encoder import UnimolEncoder as Encoder
from georecon.models.unimol.heads import PropertyHead

__all__ = ["Encoder", "PropertyHead"]
