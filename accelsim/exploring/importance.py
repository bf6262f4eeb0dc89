"""Which axes decide whether a design is good: PED-ANOVA over what was looked at.

Watanabe, Bansal, Hutter: PED-ANOVA: efficiently quantifying hyperparameter importance in arbitrary
subspaces, IJCAI 2023; by Optuna.
"""

from collections.abc import Sequence

from accelsim.exploring.hypervolume import Costs
from accelsim.exploring.packages import distributions, optuna, quiet
from accelsim.exploring.space import DesignSpace, Indices

MIN_DESIGNS = 10
"""Fewer designs than that say nothing about an axis."""


def importance_of_axes(
    designs: Sequence[Indices], costs: Costs, space: DesignSpace
) -> dict[str, float]:
    """Return axis -> share of the importance, the largest first; the shares sum to 1.

    `costs` is [designs, objectives], smaller is better.
    An axis matters as far as its alternatives among the best designs are distributed otherwise
    than among all. Empty where there are too few designs, or where no axis matters.
    """
    if len(designs) < MIN_DESIGNS:
        return {}
    library = optuna()
    with quiet():
        study = library.create_study(directions=["minimize"] * costs.shape[1])
        kinds = distributions(space.names, space.shape, space.is_ordered)
        for indices, cost in zip(designs, costs.tolist(), strict=True):
            parameters = dict(zip(kinds, indices, strict=True))
            study.add_trial(
                library.trial.create_trial(params=parameters, distributions=kinds, values=cost)
            )
        evaluator = library.importance.PedAnovaImportanceEvaluator()
        return dict(library.importance.get_param_importances(study, evaluator=evaluator))
