"""Make both clouds trust each other: desired resources, what exists, the plan between them."""
