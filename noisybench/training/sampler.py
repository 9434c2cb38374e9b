"""Order and weights of the training examples: the batches of an epoch, and the mean of their losses."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from noisybench.training.batch import Batch, BatchPlan
from noisybench.training.training_set import TrainingSet
from noisybench.utils.seeds import Stream

POOL_BATCHES = 32
"""Number of batches that are sorted by length together: the more, the less padding, and the less random are the batches."""


class EpochSampler:
    """Shuffle a training set into the batches of an epoch.

    Every order is drawn from a stream that is named by seed and epoch, so that a resumed run draws the same batches.

    Args:
        training_set: training set; positions are returned on the device of its targets.
        batch_size: number of examples in a batch.
        seed: seed of the run.
        keep_step_count: train as many steps per epoch as the complete training set fills even if examples are left out,
            by repeating those that remain.

    Attributes:
        lengths: (N,) lengths of the training examples on the host if the batches have examples of similar length, else None.
        weights: (N,) weights of the training examples, or None if all count the same. Examples with weight zero are left
            out.

    Example:
        >>> data = TrainingSet(torch.zeros(5, 1, 8, 8), torch.tensor([0, 1, 0, 1, 0]), num_classes=2)
        >>> sampler = EpochSampler(data, batch_size=2, seed=0)
        >>> sampler.steps_per_epoch
        2
        >>> sampler.weights = torch.tensor([1.0, 0.0, 1.0, 1.0, 0.0])
        >>> sorted(sampler.epoch_order(epoch=0).tolist())
        [0, 2, 3]
        >>> [len(step.index) for step in sampler.plan(epoch=0)]
        [2, 2]
    """

    def __init__(self, training_set: TrainingSet, batch_size: int, seed: int, keep_step_count: bool = True) -> None:
        self.training_set, self.batch_size, self.seed = training_set, batch_size, seed
        self.keep_step_count = keep_step_count
        self.lengths: Tensor | None = None
        self.weights: Tensor | None = None

    @property
    def num_selected(self) -> int:
        """Number of examples with a weight above zero."""
        return len(self.training_set) if self.weights is None else int((self.weights > 0).sum())

    @property
    def steps_per_epoch(self) -> int:
        """Number of batches in an epoch that no mitigation plans."""
        return self._num_batches(len(self.training_set) if self.keep_step_count else self.num_selected)

    def _num_batches(self, count: int) -> int:
        full, rest = divmod(count, self.batch_size)
        # A batch of a single example has no batch statistics, so it is dropped.
        return max(1, full + (rest > 1))

    def epoch_order(self, epoch: int, number: int = 0) -> Tensor:
        """Return the positions of the selected examples in random order.

        Args:
            epoch: number of the epoch, from 0.
            number: number of the order; each number gives an independent order of the same epoch.
        """
        # Drawn on the host, so that the order does not depend on the training device.
        stream = Stream("order", self.seed, epoch, *([number] if number else []))
        if self.weights is None:
            order = torch.from_numpy(stream.permutation(len(self.training_set)))
        else:
            selected = torch.nonzero(self.weights.cpu() > 0).squeeze(1)
            order = selected[torch.from_numpy(stream.permutation(len(selected)))]
        if self.lengths is not None:
            order = group_by_length(order, self.lengths, self.batch_size, stream)
        return order.to(self.training_set.targets.device)

    def plan(self, epoch: int, network: int = 0, networks: int = 1) -> list[BatchPlan]:
        """Return the batches of an epoch; if few examples are selected, they are repeated in further orders.

        Args:
            epoch: number of the epoch, from 0.
            network: number of the network that the batches are for, if several train on orders of their own; it is the
                phase of the batches.
            networks: number of these networks.

        Example:
            >>> data = TrainingSet(torch.zeros(4, 1, 8, 8), torch.tensor([0, 1, 0, 1]), num_classes=2)
            >>> sampler = EpochSampler(data, batch_size=4, seed=0)
            >>> [sampler.plan(0, network, 2)[0].index.tolist() for network in range(2)]
            [[0, 1, 3, 2], [3, 2, 0, 1]]
        """
        size, steps, once = self.batch_size, self.steps_per_epoch, self._num_batches(self.num_selected)
        # Each repetition has a stream of its own, so that the first order does not depend on their number.
        orders = [self.epoch_order(epoch, repeat * networks + network) for repeat in range(math.ceil(steps / once))]
        batches = [
            BatchPlan(order[step * size : (step + 1) * size], network) for order in orders for step in range(once)
        ]
        return batches[:steps]

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Return random positions, drawn with replacement from the selected examples.

        Args:
            count: number of positions.
            generator: random numbers on the device of the targets.

        Example:
            >>> data = TrainingSet(torch.zeros(4, 1, 8, 8), torch.tensor([0, 1, 0, 1]), num_classes=2)
            >>> sampler = EpochSampler(data, batch_size=2, seed=0)
            >>> sampler.weights = torch.tensor([0.0, 1.0, 0.0, 1.0])
            >>> set(sampler.draw(20, torch.Generator().manual_seed(0)).tolist())
            {1, 3}
        """
        device = self.training_set.targets.device
        if self.weights is None:
            return torch.randint(len(self.training_set), (count,), generator=generator, device=device)
        selected = torch.nonzero(self.weights > 0).squeeze(1)
        return selected[torch.randint(len(selected), (count,), generator=generator, device=device)]

    def mean_loss(self, losses: Tensor, batch: Batch) -> Tensor:
        """Return the weighted mean of (B,) losses over the labels that exist.

        Example:
            >>> data = TrainingSet(torch.zeros(2, 1, 8, 8), torch.tensor([0, 1]), num_classes=2)
            >>> batch = Batch({"weak": data.inputs}, data.targets, torch.arange(2), num_classes=2)
            >>> EpochSampler(data, batch_size=2, seed=0).mean_loss(torch.tensor([1.0, 3.0]), batch)
            tensor(2.)
        """
        if self.weights is not None:
            # All labels of an example have its weight.
            labels_per_example = self.training_set.num_labels // len(self.training_set)
            losses = losses * self.weights[batch.index // labels_per_example]
        # Divided by the number of labels: the sum of weights would let an example's share depend on its batch.
        if batch.has_label is None:
            return losses.mean()
        # A product with the mask has a fixed shape, while indexing by it would make the host wait for the device.
        return (losses * batch.has_label).sum() / batch.has_label.sum().clamp_min(1)


def group_by_length(order: Tensor, lengths: Tensor, batch_size: int, stream: Stream) -> Tensor:
    """Return a random order in which examples of similar length follow each other, so that a batch has little padding.

    Pools of `POOL_BATCHES` batches are sorted by length and cut into batches, whose order is random. The last batch, if it
    is not full, has examples of any length.

    Args:
        order: (M,) positions in random order.
        lengths: (N,) lengths of all examples.
        batch_size: number of examples in a batch.
        stream: random numbers.

    Example:
        >>> lengths = torch.tensor([9, 1, 8, 2, 7, 3])
        >>> group_by_length(torch.arange(6), lengths, batch_size=2, stream=Stream("doc")).view(3, 2).sort(1)[0].tolist()
        [[4, 5], [1, 3], [0, 2]]
    """
    count = len(order) // batch_size * batch_size
    pools = torch.split(order[:count], POOL_BATCHES * batch_size)
    # A stable sort, so that examples of equal length stay in random order on any machine.
    grouped = [pool[lengths[pool].argsort(stable=True)] for pool in pools]
    batches = torch.cat(grouped).view(-1, batch_size) if count else order[:0].view(0, batch_size)
    shuffled = batches[torch.from_numpy(stream.permutation(len(batches)))]
    return torch.cat([shuffled.flatten(), order[count:]])
