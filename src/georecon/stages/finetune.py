"""Fine-tuning of an encoder on one property or on one molecule's energies and forces."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from georecon.data.molecules import Molecules
from georecon.data.naive import fit_composition
from georecon.data.split import read_split
from georecon.data.store import Store
from georecon.errors import ConfigError
from georecon.experiments.settings import FinetuneSettings, Recipe
from georecon.files import atomic_path, sha256_file, sha256_json
from georecon.graph import MolGraph, mse_of_atoms
from georecon.kernels.fixed_edges import available, equal_molecules
from georecon.keys import Json, as_json, from_json
from georecon.models.encoder import EdgeFeatures, EquivariantTransformer
from georecon.models.encoder_file import load_encoder
from georecon.models.encoders import noise_head
from georecon.models.model_file import ModelCard, save_model
from georecon.models.potential import PropertyModel
from georecon.noise import NoiseSource, displaced
from georecon.training.batches import WHOLE, Batch, Share, ShuffledBatches, in_order, one_by_one
from georecon.training.loop import FitResult, fit
from georecon.training.precision import check_precision
from georecon.training.replay import Recurring, padded, recordable, recordable_sizes
from georecon.training.unlearned import (
    atomref_array,
    isolated_atoms,
    label_statistics,
    unlearned_test_set,
)
from georecon.training.world import World

LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "mse": functional.mse_loss,
    "smooth_l1": functional.smooth_l1_loss,
}


class FinetuneModel(nn.Module):
    """Property model, and the head for the noise of Noisy Nodes, which is dropped later.

    An encoder without vectors has no such head: the configuration then has no such noise.
    """

    def __init__(self, property_model: PropertyModel) -> None:
        super().__init__()
        self.property_model = property_model
        self.noise_head = noise_head(property_model.encoder.settings)

    def noise_loss(self, x: Tensor, vec: Tensor | None, graph: MolGraph, epsilon: Tensor) -> Tensor:
        """Mean squared error of the noise read off features, in units of its σ."""
        assert self.noise_head is not None, "no head for Noisy Nodes"
        return mse_of_atoms(self.noise_head(x, vec, graph), epsilon, graph)


class Part(NamedTuple):
    """What the losses of one part of a step are a function of.

    Attributes:
        batch: its molecules.
        keys: of their noise, (B,) int64.
        share: what part of the whole batch it is.
    """

    batch: Batch
    keys: Tensor
    share: Share


class NoisyPart(NamedTuple):
    """What the loss of a property on one part of a step is a function of.

    Attributes:
        graph: its molecules, displaced.
        epsilon: by this noise, (N, 3).
        edges: of ``graph``; None for encoders that find their own.
        label: of each molecule, (B,) float64.
        share: what part of the whole batch it is.
    """

    graph: MolGraph
    epsilon: Tensor
    edges: EdgeFeatures | None
    label: Tensor
    share: Share


class FinetuneTask:
    """Loss and validation of one fine-tuning run (the loop's ``Task``)."""

    def __init__(
        self,
        model: FinetuneModel,
        recipe: Recipe,
        batches: ShuffledBatches,
        validation: list[Batch],
        *,
        seed: int,
    ) -> None:
        self.model, self.recipe = model.to(batches.world.device), recipe
        self.batches, self.validation, self.seed = batches, validation, seed

    def molecules(self, step: int) -> list[int]:
        """Molecule ids of this step's batch."""
        return self.batches.ids_at(step)

    def parts(self, step: int) -> int:
        """Parts of this process's share of a step's batch."""
        return len(self.batches.parts(step))

    def loss(self, step: int, part: int = 0) -> dict[str, Tensor]:
        """Property loss, force loss where there are forces, Noisy Nodes loss of one part."""
        return self._losses(self._at(step, part))

    def recurring(self, step: int, part: int) -> Recurring | None:
        """The losses: for edges of fixed shapes where all molecules of a part are of one size, else
        of a property's whole batch that is filled up.

        Raises:
            DataError: as of the encoder, whose own check would wait for the device.
        """
        settings = self.model.property_model.encoder.settings
        if not available(self.batches.world.device):
            return None
        atoms = self.batches.equal_atoms(step, part)
        if recordable(settings, atoms):
            self.batches.check(settings.max_z)
            return Recurring(functools.partial(self._losses, atoms=atoms), self._at(step, part))
        if self.recipe.forces or not recordable_sizes(settings):
            return None
        if self.batches.share(step, part) != WHOLE:
            return None
        return Recurring(self._loss_of_noisy, padded(self._noisy(self._at(step, part, fill=True))))

    def _at(self, step: int, part: int, *, fill: bool = False) -> Part:
        batch, share = self.batches.at(step, part), self.batches.share(step, part)
        batch = batch.filled_up() if fill else batch
        keys = NoiseSource(self.seed, step).keys(batch.graph, "noisy_nodes")
        return Part(batch, keys, share)

    def _losses(self, part: Part, atoms: int = 0) -> dict[str, Tensor]:
        """Of molecules that all have so many atoms, if it is not 0."""
        with equal_molecules(atoms):
            if self.recipe.forces:
                return self._force_loss(part)
            return self._loss_of_noisy(self._noisy(part))

    def _noisy(self, part: Part) -> NoisyPart:
        encoder, (batch, keys, share) = self.model.property_model.encoder, part
        graph, epsilon = displaced(batch.graph, keys, self.recipe.noise_sigma)
        edges = encoder.edges(graph) if isinstance(encoder, EquivariantTransformer) else None
        return NoisyPart(graph, epsilon, edges, batch.label, share)

    def _loss_of_noisy(self, part: NoisyPart) -> dict[str, Tensor]:
        """One pass: the property and the noise are both read off the noisy molecule (PVD)."""
        recipe, model = self.recipe, self.model.property_model
        graph, epsilon, edges, label, share = part
        encoder = model.encoder
        if isinstance(encoder, EquivariantTransformer):
            x, vec = encoder(graph, edges)
        else:
            x, vec = encoder(graph)
        real = graph.num_graphs - graph.fillers
        output, target = model.head(x, vec, graph)[:real], model.normalise(label, graph)[:real]
        property_loss = LOSSES[recipe.loss](output, target)
        loss = share.of("molecules", property_loss)
        terms = {"property": loss}
        if recipe.noise_sigma:
            terms["noise"] = share.of("atoms", self.model.noise_loss(x, vec, graph, epsilon))
            loss = loss + recipe.noise_weight * terms["noise"]
        return {"loss": loss, **terms}

    def _force_loss(self, part: Part) -> dict[str, Tensor]:
        """Energies and forces of the clean molecule; the noise in a pass of its own (SliDe).

        DEVIATION: both losses are on labels divided by the training standard deviation, where the
        lineage has raw units: the weight of the noise then means the same for every molecule.
        """
        recipe, model, (batch, keys, share) = self.recipe, self.model.property_model, part
        energy, forces = model.energy_and_forces(batch.graph, training=True)
        target = (batch.forces / model.scale).to(forces.dtype)
        measure = LOSSES[recipe.loss]
        terms = {
            "energy": share.of(
                "molecules", measure(energy, model.normalise(batch.label, batch.graph))
            ),
            "force": share.of("atoms", measure(forces, target)),
        }
        loss = recipe.energy_weight * terms["energy"] + recipe.force_weight * terms["force"]
        if recipe.noise_sigma:
            graph, epsilon = displaced(batch.graph, keys, recipe.noise_sigma)
            noise_loss = self.model.noise_loss(*model.encoder(graph), graph, epsilon)
            terms["noise"] = share.of("atoms", noise_loss)
            loss = loss + recipe.noise_weight * terms["noise"]
        return {"loss": loss, **terms}

    def validate(self) -> dict[str, float]:
        """Mean absolute errors on validation molecules [label unit]; the score is minimised."""
        model, world = self.model.property_model, self.batches.world
        predicted = predict(model, self.validation, self.recipe, world)
        errors = absolute_errors(predicted, self.validation)
        if not self.recipe.forces:
            return {"score": errors["mae"], **errors}
        score = (
            self.recipe.energy_weight * errors["mae"]
            + self.recipe.force_weight * errors["force_mae"]
        )
        return {"score": score, **errors}


def predict(
    model: PropertyModel,
    batches: Iterable[Batch],
    recipe: Recipe,
    world: World,
) -> dict[str, Tensor]:
    """Predictions for all batches, on the CPU.

    Args:
        model: what predicts.
        batches: molecules, on the host.
        recipe: says whether there are forces.
        world: processes that share the batches out, whole; all get the same result, to the bit.

    Returns:
        ``ids`` and ``prediction`` (M,), float64 [label unit]: energies are too large for less.
        With forces also ``force_prediction`` (N, 3) [label unit/Å], in the precision that the model
        computes them in.
    """
    precision = next(model.parameters()).dtype
    parts: dict[str, list[Tensor]] = {}
    model.eval()
    for k, host in enumerate(batches):
        found = {"ids": host.graph.ids}
        if k % world.size == world.rank:
            found |= _predict_batch(model, host.to(world.device), recipe)
        else:  # another process's: adding its numbers to zero changes no bit
            found["prediction"] = torch.zeros_like(host.label)
            if recipe.forces:
                found["force_prediction"] = torch.zeros_like(host.forces)
        if recipe.forces:
            found["force_prediction"] = found["force_prediction"].to(precision)
        for name, value in found.items():
            parts.setdefault(name, []).append(value)
    model.train()
    whole = {name: torch.cat(values) for name, values in parts.items()}
    for name in ("prediction", "force_prediction"):
        if name in whole:
            world.sum(whole[name])
    return whole


def _predict_batch(model: PropertyModel, batch: Batch, recipe: Recipe) -> dict[str, Tensor]:
    graph = batch.graph
    if not recipe.forces:
        with torch.no_grad():
            return {"prediction": model.denormalise(model(graph), graph).cpu()}
    energy, forces = model.label_and_forces(graph)
    return {"prediction": energy.cpu(), "force_prediction": forces.cpu()}


def absolute_errors(predicted: dict[str, Tensor], batches: list[Batch]) -> dict[str, float]:
    """Mean absolute errors of :func:`predict`'s output [label unit]; forces by component.

    Args:
        predicted: what a model predicts for ``batches``.
        batches: molecules with their labels.
    """
    label = torch.cat([batch.label for batch in batches])
    errors = {"mae": float((predicted["prediction"] - label).abs().mean())}
    if "force_prediction" in predicted:
        difference = predicted["force_prediction"] - torch.cat([batch.forces for batch in batches])
        errors["force_mae"] = float(difference.abs().mean())
    return errors


def finetune(
    settings: Json,
    store_path: Path,
    split_path: Path,
    encoder_path: Path | None,
    output: Path,
    *,
    state: Path,
    world: World,
    say: Callable[[str], None],
) -> FitResult:
    """Fine-tune, then predict the test set once.

    Writes ``model.safetensors``, ``outputs.safetensors`` and ``curve.csv``.

    Args:
        settings: of ``FinetuneSettings``, as JSON.
        store_path: labelled store.
        split_path: split with train, val and test ids.
        encoder_path: pre-trained encoder, or None to start from scratch.
        output: folder for the files; from the project's root, as the model's header calls the run.
        state: folder of unfinished runs.
        world: the processes that train together; the first one writes the files.
        say: takes one progress line.
    """
    store, split = Store.open(store_path), read_split(split_path)
    run = _with_isolated_atoms(from_json(FinetuneSettings, settings), store)
    recipe, train, label = run.recipe, run.train, run.label
    check_precision(train.precision, world.device)
    files = {"split": split_path, "encoder": encoder_path}
    data = {name: None if path is None else sha256_file(path) for name, path in files.items()}
    if recipe.isolated_atoms:
        data["isolated_atoms"] = sha256_json(as_json(recipe.atomref))
    digest = sha256_json({"settings": settings, "store": store.sha256, **data})
    torch.manual_seed(run.seed)
    molecules = store.gather(store.rows(split.train))
    model = _build_model(run, molecules)
    if encoder_path is not None:
        load_encoder(encoder_path, model.property_model.encoder)
    most = train.part_atoms
    size, seed = train.batch_size, run.seed
    batches = ShuffledBatches(
        store, split.train, batch_size=size, seed=seed, label=label, world=world, part_atoms=most
    )
    validation = in_order(store, split.val, run.evaluation_batch, label, most)
    task = FinetuneTask(model, recipe, batches, validation, seed=seed)
    folder = state / digest[:24]
    result = fit(task, train, folder=folder, digest=digest, name=run.name, say=say, world=world)
    test = one_by_one(store, split.test, run.evaluation_batch, label, most)
    outputs = predict(model.property_model, test, recipe, world)
    if world.first:
        outputs |= unlearned_test_set(molecules, store, split.test, label, recipe)
        card = _card(run, output, molecules, store.manifest.units[label])
        save_model(output / "model.safetensors", model.property_model, card)
        _write(output, outputs, folder / "curve.csv")
    return result


def _with_isolated_atoms(run: FinetuneSettings, store: Store) -> FinetuneSettings:
    """Settings with the store's isolated atoms as references, where the recipe wants them."""
    if not run.recipe.isolated_atoms:
        return run
    return replace(run, recipe=replace(run.recipe, atomref=isolated_atoms(store, run.label)))


def _build_model(run: FinetuneSettings, train: Molecules) -> FinetuneModel:
    """Model with its label map from the training molecules."""
    sizes, recipe = run.encoder, run.recipe
    references = atomref_array(recipe.atomref, train.z, sizes.max_z)
    if recipe.fitted:
        references = fit_composition(train, run.label).per_atom[: sizes.max_z]
    mean, std = label_statistics(train, run.label, references)
    shift, scale = (mean, std) if recipe.standardize else (0.0, 1.0)
    if scale <= 0.0:
        raise ConfigError(f"label {run.label!r} is the same for all training molecules")
    atomref = torch.from_numpy(references)
    model = PropertyModel(sizes, recipe.head, scale=scale, shift=shift, atomref=atomref)
    return FinetuneModel(model)


def _card(run: FinetuneSettings, output: Path, train: Molecules, unit: str) -> ModelCard:
    """What the model is, for whoever uses its file."""
    counts = train.n_atoms()
    return ModelCard(
        run=output.name if output.is_absolute() else output.as_posix(),
        dataset=run.dataset,
        target=run.target,
        label=run.label,
        unit=unit,
        method=run.method,
        seed=run.seed,
        head=run.recipe.head,
        forces=run.recipe.forces,
        encoder=run.encoder,
        batch=run.evaluation_batch,
        elements=tuple(int(z) for z in np.unique(train.z)),
        fewest_atoms=int(counts.min()),
        most_atoms=int(counts.max()),
    )


def _write(output: Path, outputs: dict[str, Tensor], curve: Path) -> None:
    with atomic_path(output / "outputs.safetensors") as temporary:
        save_file({name: value.contiguous() for name, value in outputs.items()}, temporary)
    with atomic_path(output / "curve.csv") as temporary:
        shutil.copyfile(curve, temporary)
