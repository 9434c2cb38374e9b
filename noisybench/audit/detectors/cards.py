"""Fidelity cards of the detectors that follow a reference."""

from __future__ import annotations

from noisybench.config.fidelity import Deviation, Fidelity

CARDS: dict[str, Fidelity] = {
    "cnlcu": Fidelity(
        formula=(
            "soft: score = mean log(1 + l + l²/2) - s (t + s log(2t) / t²) / (n - s);  hard: score = mean of l without o "
            "outliers - 2 √(2s) 2 (t + √2 o) √(log(4t) / n) / ((t - o) √t);  l: losses of t epochs, n: selections, s: 1e-4"
        ),
        reference="https://github.com/xiaoboxia/CNLCU",
        commit="b96ddac6e987c012afeee4fd2836c46654a26eb5",
        license="not stated",
        compared="means of 40 examples after 22 epochs, both widths of bounds, and outliers by the factors of scikit-learn",
        difference="5e-7 in the means, 7e-8 in the soft widths, 1.2e-4 of 1.32 in the hard ones, whose √2 is 1.414 in the code",
        golden=("cnlcu",),
        deviations=(
            Deviation(
                "losses are given; the authors compute the bounds while two networks train on the selected examples",
                "a detector trains nothing",
                "without given selections, all bounds have one width, and the order is that of the means",
            ),
            Deviation(
                "the outliers are left out; the authors' hard truncation sets all losses but the outliers to 0, and counts them "
                "as the outliers",
                "the paper, and the sign of the library's flags",
                "in the frozen vectors the rank correlation with their means is -.23",
            ),
            Deviation(
                "the bound of an example is that of its own losses; the authors' soft code compares the history of the first "
                "example of a batch with the current losses of all",
                "the paper",
                "their selection in a batch is that of the current losses",
            ),
            Deviation(
                "the mean is that of all losses; the authors count a loss of 0 before the first epoch",
                "the paper",
                "one epoch more: a factor of t / (t + 1) in the soft mean",
            ),
            Deviation(
                "an example has one selection more than it is given; the authors count from 1 in the hard bound and from 2 in "
                "the soft one",
                "one definition, and finite bounds",
                "at most 5e-5 t in the soft bound",
            ),
            Deviation(
                "scores may be negative, and the parameter s is constant; the authors clip at 0, and s falls to 0 in 80 epochs",
                "clipped scores have no order, and E epochs need not be those of the training",
                "22 of the 40 hard scores of the authors are clipped",
            ),
        ),
    ),
    "deep_knn": Fidelity(
        formula="score = (max_c≠y v_c - v_y) / k,  v: votes of the example and its k - 1 nearest neighbors",
        reference="https://github.com/scikit-learn/scikit-learn",
        commit="1.9.1",
        license="BSD-3-Clause",
        compared=(
            "shares of votes and flags of 120 features of 4 classes at 1, 7 and 25 voters against `KNeighborsClassifier` on "
            "its own training set; the authors of the method published no code"
        ),
        difference="1e-15 in the shares; no flag differs without a tie",
        deviations=(
            Deviation(
                "a label with as many votes as another class is not flagged; the library takes the first class",
                "a tie contradicts no label",
                "only ties: 0, 9 and 2 of 120 labels at 1, 7 and 25 voters",
            ),
            Deviation(
                "features are given; the paper takes the logits of a model that it trains first",
                "a detector trains nothing",
                "depends on the features",
            ),
        ),
    ),
    "fine": Fidelity(
        formula="score = -|<f, u_y>| / |f|,  u_y: the first singular vector of the features of label y",
        reference="https://github.com/Kthyeon/FINE_official",
        commit="d5ab341dec5356d5f9a2a8ebc3ba8e846188af61",
        license="not stated",
        compared="scores and selection by k-means of 60 features of 3 classes",
        difference="2e-6 in the scores; no selected example differs",
        golden=("fine",),
        deviations=(
            Deviation(
                "the two clusters of a label are the best division of all; the authors' k-means starts at random",
                "the result is the same in every call",
                "none in the frozen vectors",
            ),
        ),
    ),
    "simifeat": Fidelity(
        formula="score = 1 - v_y / |v|,  v: votes of k examples by cosine similarity",
        reference="https://github.com/UCSC-REAL/SimiFeat",
        commit="534af484f3831891ae698b73892425e63482c4b0",
        license="CC-BY-NC-4.0",
        compared="votes, scores, transition matrix after 20 and 400 steps, and both selections of 240 features of 4 classes",
        difference="1.7e-7 in the scores and after 20 steps; no selected example differs",
        golden=("simifeat",),
        deviations=(
            Deviation(
                "one pass over given features; the authors decide by a majority of 21 passes over augmented images",
                "features are what is given",
                "not measured",
            ),
            Deviation(
                "the noise rate of a class is the estimate; the authors add a random offset within .05",
                "equal calls give equal flags",
                "at most 5 % of the examples of a class are flagged or not",
            ),
            Deviation(
                "the consensus is counted once, on all examples; the authors average 10 draws of 15,000 examples",
                "no sampling error",
                "none for up to 15,000 examples",
            ),
            Deviation(
                "the optimization starts from equal classes and in double precision; the authors' start is random, in single "
                "precision",
                "equal calls give equal flags",
                "after all steps, entries of the transition matrix differ by .004 from the same start and by at most .006 from "
                "four random ones",
            ),
            Deviation(
                "a negative similarity counts as 0; the authors count it",
                "the logarithm of a negative vote has no value",
                "none for non-negative features",
            ),
            Deviation(
                "a label with as many votes as another class is not flagged; the authors take the first class",
                "a tie contradicts no label",
                "only ties",
            ),
            Deviation(
                "a label without a vote for another class is not flagged; the authors flag a whole class whose scores are equal",
                "neighbors that all agree contradict no label",
                "none in the frozen vectors",
            ),
        ),
    ),
    "vog": Fidelity(
        formula="score = z-score, among the label's examples, of the mean over inputs x of std over checkpoints of dz_y/dx",
        reference="https://github.com/chirag126/VOG",
        commit="8f266afbeee714fe98ae557e96b61fb06089af52",
        license="not stated",
        compared="scores of 50 examples of 2 classes from the gradients of 15 epochs of the authors' toy experiment",
        difference="0 in the scores",
        golden=("vog",),
        deviations=(
            Deviation(
                "gradients are given; in the authors' toy experiment they are those of probabilities, and add up over epochs",
                "a detector trains nothing; the paper takes those of logits",
                "depends on the gradients",
            ),
            Deviation(
                "the examples of a label with equal values have the score 0; the authors divide by 0",
                "scores must be numbers",
                "only such labels, such as those of one example",
            ),
        ),
    ),
}
"""Cards by the names of detectors."""
