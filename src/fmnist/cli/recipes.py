"""The verb `recipes`."""

from fmnist import tables
from fmnist.cli.options import Json, show


def recipes(as_json: Json = False) -> None:
    """List the recipes with what they cost and what they were measured at.

    Example: `fmnist recipes`
    """
    import dataclasses

    from fmnist.recipes import RECIPES

    listing = [
        {**recipe.to_json(), "score": recipe.score and dataclasses.asdict(recipe.score)}
        for recipe in RECIPES.values()
    ]
    show({"recipes": listing}, tables.print_recipes, as_json)
