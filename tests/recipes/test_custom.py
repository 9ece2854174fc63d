"""`python -m kerastag.recipes.custom` is `kerastag learn`."""

from kerastag.recipes._papers import recipe_names
from kerastag.recipes.custom import main


def test_the_recipe_of_own_sounds_is_the_verb_learn_and_no_system_of_a_paper(capsys):
    assert main(["/no/such"]) == 1
    assert capsys.readouterr().err == "kerastag learn: error: /no/such: no such folder or table of labels\n"
    assert "custom" not in recipe_names()
