"""The feed-forward part of a layer: two or three matrices, or a choice of many of them."""

from dataclasses import dataclass

from accelsim.models.matrix import Matrix


@dataclass(frozen=True, slots=True)
class DenseFeedForward:
    """Rows go up to `width` elements, through the activation, and down again."""

    width: int
    activation: str
    is_gated: bool = True
    """Whether a second matrix goes up, and the activation of one multiplies the other."""
    has_bias: bool = False

    def matrices(self, hidden: int) -> tuple[Matrix, ...]:
        """Return its linear maps in a model with rows of `hidden` elements."""
        return self.named(hidden, "mlp")

    def named(
        self, hidden: int, module: str, copies: int = 1, used: int | None = None
    ) -> tuple[Matrix, ...]:
        """Return its linear maps, or those of so many alike, below a name."""
        up = ("gate_proj", "up_proj") if self.is_gated else ("up_proj",)
        return (
            *(
                Matrix(f"{module}.{name}", hidden, self.width, self.has_bias, copies, used)
                for name in up
            ),
            Matrix(f"{module}.down_proj", self.width, hidden, self.has_bias, copies, used),
        )

    @property
    def vector_parameters(self) -> int:
        """It has none outside of its matrices."""
        return 0


@dataclass(frozen=True, slots=True)
class ExpertFeedForward:
    """A router sends each row to a few of many experts, and all rows to the shared ones."""

    experts: int
    experts_per_token: int
    expert: DenseFeedForward
    shared: DenseFeedForward | None = None
    has_router_bias: bool = False
    """Whether the router adds a bias to its logits."""
    has_balance_bias: bool = False
    """Whether a learned number an expert moves the choice, but not the weights (DeepSeek-V3)."""

    def matrices(self, hidden: int) -> tuple[Matrix, ...]:
        """Return its linear maps in a model with rows of `hidden` elements."""
        each = (self.experts, self.experts_per_token)
        shared = self.shared.named(hidden, "mlp.shared_experts") if self.shared else ()
        return (
            Matrix("mlp.gate", hidden, self.experts, self.has_router_bias),
            *self.expert.named(hidden, "mlp.experts.*", *each),
            *shared,
        )

    @property
    def vector_parameters(self) -> int:
        """Learned numbers outside of its matrices."""
        return self.has_balance_bias * self.experts


FeedForward = DenseFeedForward | ExpertFeedForward
