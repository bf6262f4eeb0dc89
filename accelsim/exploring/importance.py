"""Which axes decide whether a design is good: PED-ANOVA over what was looked at.

Watanabe, Bansal, Hutter: PED-ANOVA: efficiently quantifying hyperparameter importance in arbitrary
subspaces, IJCAI 2023; by Optuna.
"""

from collections.abc import Mapping, Sequence

from accelsim.exploring.hypervolume import Costs
from accelsim.exploring.packages import optuna, quiet
from accelsim.exploring.space import Indices

MIN_DESIGNS = 10
"""Fewer designs than that say nothing about an axis."""


def importance_of_axes(
    designs: Sequence[Indices], costs: Costs, sizes: Mapping[str, int]
) -> dict[str, float]:
    """Return axis -> share of the importance, the largest first; the shares sum to 1.

    `costs` is [designs, objectives], smaller is better; `sizes` has the alternatives of each axis.
    An axis matters as far as its alternatives among the best designs are distributed otherwise
    than among all. Empty where there are too few designs, or where no axis matters.
    """
    if len(designs) < MIN_DESIGNS:
        return {}
    library = optuna()
    with quiet():
        study = library.create_study(directions=["minimize"] * costs.shape[1])
        kinds = {
            name: library.distributions.CategoricalDistribution(tuple(range(size)))
            for name, size in sizes.items()
        }
        for indices, cost in zip(designs, costs.tolist(), strict=True):
            parameters = dict(zip(sizes, indices, strict=True))
            study.add_trial(
                library.trial.create_trial(params=parameters, distributions=kinds, values=cost)
            )
        evaluator = library.importance.PedAnovaImportanceEvaluator()
        return dict(library.importance.get_param_importances(study, evaluator=evaluator))
