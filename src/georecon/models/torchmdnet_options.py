"""Hyper-parameters of TorchMD-NET and PVD: what each means for the encoder.

Every one is in one of three tables. ``READ``: becomes a setting of our encoder, or must agree with
it. ``FIXED``: changes the encoder's function, and our encoder has one of its values only.
``OTHER``: heads, priors, data and training; the encoder's function is the same for every value. One
that is in no table is refused by name: nobody knows whether it changes the numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from georecon.errors import CheckpointError
from georecon.experiments.settings import EncoderSettings


class Option(NamedTuple):
    """A hyper-parameter that is read.

    Attributes:
        setting: field of ``EncoderSettings``.
        kind: type of its values.
        default: of the programs that did not have it yet; None where it must be there.
    """

    setting: str
    kind: type[int] | type[float] | type[bool]
    default: float | None = None


READ: dict[str, Option] = {
    "embedding_dimension": Option("channels", int),
    "num_layers": Option("layers", int),
    "num_heads": Option("heads", int),
    "num_rbf": Option("rbf", int),
    "cutoff_upper": Option("cutoff", float),
    "max_num_neighbors": Option("max_neighbors", int),
    "max_z": Option("max_z", int),
    "vector_cutoff": Option("vector_cutoff", bool, default=False),
}
VECTOR_NORM = {"whitened": "whitened", None: "none", "none": "none", "": "none"}
"""Values of ``layernorm_on_vec`` (PVD), which is read too, and our names of them."""

FIXED: dict[str, tuple[Any, ...]] = {
    "model": ("equivariant-transformer",),
    "rbf_type": ("expnorm",),
    "activation": ("silu",),
    "attn_activation": ("silu",),
    "neighbor_embedding": (True,),
    "distance_influence": ("both",),
    "aggr": ("add",),
    "cutoff_lower": (0,),
    "atom_filter": (-1, None),
    "box_vecs": (None,),
    "q_dim": (0, None),
    "s_dim": (0, None),
    "q_weights": (False, None),
    "extra_fields": (None,),
    "additional_labels": (None,),
    "charge": (False, None),
    "spin": (False, None),
}
"""Allowed values. ``trainable_rbf`` is not here: the basis in the file is compared with ours."""

_HEADS = """
    check_errors derivative dipole dtype ensemble equivariance_invariance_group force_weight
    num_models output_mlp_num_layers output_model output_model_noise prior_args prior_class
    prior_model reduce_op remove_ref_energy return_std standardize static_shapes trainable_rbf
"""
_DATA = """
    coord_files dataset dataset_arg dataset_preload_limit dataset_root embed_files energy_files
    force_files splits test_ratio test_size train_size val_ratio val_size
"""
_TRAINING = """
    accelerator batch_size conf denoising_only denoising_weight devices distributed_backend
    early_stopping_monitor early_stopping_patience ema_alpha ema_alpha_dy ema_alpha_neg_dy
    ema_alpha_y energy_weight gradient_clipping inference_batch_size job_id load_model log_dir lr
    lr_cosine_length lr_factor lr_metric lr_min lr_patience lr_schedule lr_warmup_steps
    neg_dy_weight ngpus num_epochs num_nodes num_steps num_workers optimizer overwrite
    position_noise_scale precision pretrained_model redirect reload reset_trainer save_interval
    save_top_k seed tensorboard_use test_interval train_loss train_loss_arg val_interval
    wandb_name wandb_notes wandb_project wandb_resume_from_id wandb_use weight_decay y_weight
"""
OTHER = frozenset(f"{_HEADS} {_DATA} {_TRAINING}".split())


def settings_of(options: Mapping[str, Any], vector_norm: str) -> EncoderSettings:
    """Settings of the encoder that a file's hyper-parameters describe.

    Args:
        options: all hyper-parameters of the file.
        vector_norm: ``whitened`` if the file has the tensors of that norm, else ``none``.

    Raises:
        CheckpointError: a hyper-parameter is unknown, missing, or has a value that our encoder does
            not have; names it and what is allowed.
    """
    _check_known(options)
    values: dict[str, Any] = {}
    for name, option in READ.items():
        if name not in options and option.default is None:
            raise CheckpointError(f"hyper-parameter {name} is missing")
        values[option.setting] = _value(name, option, options.get(name, option.default))
    _check_vector_norm(options, vector_norm)
    return EncoderSettings(**values, vector_norm=vector_norm)


def options_of(settings: EncoderSettings) -> dict[str, object]:
    """Hyper-parameters that describe an encoder: what :func:`settings_of` reads, and the values
    that all our encoders have.
    """
    read = {name: getattr(settings, option.setting) for name, option in READ.items()}
    fixed = {name: values[0] for name, values in FIXED.items() if values[0] is not None}
    norm = settings.vector_norm if settings.vector_norm != "none" else None
    return {**fixed, **read, "trainable_rbf": False, "layernorm_on_vec": norm}


def check_against(options: Mapping[str, Any], settings: EncoderSettings, vector_norm: str) -> None:
    """Refuse an encoder whose settings are not those of a file's hyper-parameters.

    Args:
        options: hyper-parameters, all or some.
        settings: of the encoder that the weights are for.
        vector_norm: of the file, see ``settings_of``.

    Raises:
        CheckpointError: as ``settings_of``, or a setting differs; names both values.
    """
    _check_known(options)
    for name, option in READ.items():
        if name in options or option.default is not None:
            value = _value(name, option, options.get(name, option.default))
            own = getattr(settings, option.setting)
            if value != own:
                reason = f"hyper-parameter {name} is {value!r}, the encoder has {own!r}"
                raise CheckpointError(f"{reason} ({option.setting})")
    _check_vector_norm(options, vector_norm)


def _check_known(options: Mapping[str, Any]) -> None:
    for name, value in options.items():
        if name in FIXED:
            allowed = FIXED[name]
            # True equals 1 in Python, but no program writes one for the other
            kind = isinstance(value, bool)
            if not any(kind == isinstance(one, bool) and value == one for one in allowed):
                words = " or ".join(repr(one) for one in allowed)
                raise CheckpointError(f"hyper-parameter {name} is {value!r}; needed: {words}")
        elif name not in READ and name not in OTHER and name != "layernorm_on_vec":
            raise CheckpointError(
                f"hyper-parameter {name!r} ({value!r:.80}) is unknown: it may change the encoder's "
                "function; known ones are listed in models/torchmdnet_options.py"
            )


def _value(name: str, option: Option, value: Any) -> int | float | bool:
    number = isinstance(value, int | float) and (isinstance(value, bool) == (option.kind is bool))
    if not number or option.kind(value) != value:
        kind = {int: "a whole number", float: "a number", bool: "True or False"}[option.kind]
        raise CheckpointError(f"hyper-parameter {name} is {value!r}; needed: {kind}")
    return option.kind(value)


def _check_vector_norm(options: Mapping[str, Any], vector_norm: str) -> None:
    if "layernorm_on_vec" not in options:
        return
    value = options["layernorm_on_vec"]
    if not isinstance(value, str | None) or value not in VECTOR_NORM:
        raise CheckpointError(
            f"hyper-parameter layernorm_on_vec is {value!r}; needed: 'whitened' or None"
        )
    if VECTOR_NORM[value] != vector_norm:
        has = "has" if vector_norm == "whitened" else "lacks"
        raise CheckpointError(
            f"hyper-parameter layernorm_on_vec is {value!r}, but the file {has} the tensors of the "
            "whitened norm"
        )
