"""Update rules, and what a training run carries from step to step."""
