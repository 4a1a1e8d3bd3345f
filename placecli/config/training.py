"""What every training loop is told, whether it pre-trains or fine-tunes."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from placecli.config.base import Count, Fraction, Positive, Section, Weight


class TrainingConfig(Section):
    """AdamW, its schedule, when it stops and what it saves."""

    epochs: Count = 50
    max_steps: Annotated[int, Field(ge=0)] = 0
    """0: epochs decide."""
    batch_size: Annotated[int, Field(ge=1)] = 48  # over all ranks
    accumulate: Count = 1  # micro-batches of batch_size per optimiser step
    learning_rate: Positive = 5e-4
    pretrained_learning_rate_scale: Positive = 1.0
    """Factor on the learning rate of parameters that started from trained weights."""
    weight_decay: Weight = 0.05
    betas: tuple[Fraction, Fraction] = (0.9, 0.999)
    warmup_fraction: Fraction = 0.1
    final_learning_rate: Weight = 1e-8
    clip_norm: Weight = 1.0
    """0: no clipping."""
    patience: Annotated[int, Field(ge=0)] = 10
    """Epochs without a better validation value before stopping; 0: never."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """auto: bfloat16 autocast on a device that has it in hardware, else float32."""
    compile: bool = False
    augment: Weight = 1.0
    """Strength of crop, rotation, intensity and noise; never a flip. 0: centre crop only."""
    checkpoint_minutes: Positive = 10.0
    seed: int = 42
