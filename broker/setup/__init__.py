"""Make both clouds trust each other: what is wanted, what stands, the plan, and doing it."""
