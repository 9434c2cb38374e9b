"""Asymmetric noise within the superclasses of CIFAR-100."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from noisybench.config.fidelity import Deviation, Fidelity
from noisybench.config.parameters import parameter
from noisybench.data.dataset import Dataset
from noisybench.data.noise_model import ClassConditional
from noisybench.errors import UserError

# The twenty superclasses of CIFAR-100 (Krizhevsky 2009), by the names of their members.
SUPERCLASSES = """
beaver dolphin otter seal whale | aquarium_fish flatfish ray shark trout | orchid poppy rose sunflower tulip |
bottle bowl can cup plate | apple mushroom orange pear sweet_pepper | clock keyboard lamp telephone television |
bed chair couch table wardrobe | bee beetle butterfly caterpillar cockroach | bear leopard lion tiger wolf |
bridge castle house road skyscraper | cloud forest mountain plain sea | camel cattle chimpanzee elephant kangaroo |
fox porcupine possum raccoon skunk | crab lobster snail spider worm | baby boy girl man woman |
crocodile dinosaur lizard snake turtle | hamster mouse rabbit shrew squirrel |
maple_tree oak_tree palm_tree pine_tree willow_tree | bicycle bus motorcycle pickup_truck train |
lawn_mower rocket streetcar tank tractor
"""


class AsymmetricSuperclassUniform(ClassConditional):
    """Flip each label to one of the four other classes of its CIFAR-100 superclass with probability `rate`.

    This is the convention of the C2D code (Zheltonozhskii et al. 2022); `asymmetric_index_block5` is the other one.
    """

    stream_name = "AsymmetricSuperclassUniform"
    convention = "another class of the same superclass, all equally likely; the rate is the expected fraction of incorrect labels"
    example_classes = tuple(SUPERCLASSES.replace("|", " ").split())
    fidelity = Fidelity(
        reference="https://github.com/ContrastToDivide/C2D",
        commit="38053869b77c1544349c53ba6f3c1325254aa413",
        license="MIT",
        compared="the superclass of each class of CIFAR-100; by reading, that the other four members are equally "
        "likely",
        difference="0 of 100 classes",
        golden=("c2d_noise",),
        deviations=(
            Deviation(
                "each label is flipped independently with the probability rate; the authors flip exactly a "
                "fraction rate of the labels",
                "labels of one example do not depend on those of the others",
                "the actual rate varies by .0022 (standard deviation) for 50,000 labels at the rate .4",
            ),
        ),
    )

    rate: float = parameter(
        0.4, ge=0, le=0.8, help="Expected fraction of incorrect labels, at most 0.8", always_in_label=True
    )

    def matrix(self, dataset: Dataset) -> NDArray[np.float64]:
        """Return 1 - rate on the diagonal, and rate / 4 in the rest of the superclass."""
        group = {name: number for number, members in enumerate(SUPERCLASSES.split("|")) for name in members.split()}
        unknown = [name for name in dataset.class_names if name not in group]
        if unknown or dataset.num_classes != 100:
            raise UserError(
                "noise: superclasses are defined only for the 100 class names of CIFAR-100, but the dataset has "
                f"{dataset.num_classes} classes" + (f" such as `{unknown[0]}`" if unknown else "")
            )
        # By name instead of position: the class order of a source need not be the alphabetical one.
        groups = np.array([group[name] for name in dataset.class_names])
        siblings = (groups[:, None] == groups[None, :]) & ~np.eye(100, dtype=bool)
        return np.asarray(np.eye(100) * (1 - self.rate) + siblings * (self.rate / 4))
