"""A run's name can be read, its id is exact, and pre-training is a run of its own."""

from dataclasses import replace

from heed.core.component import is_component
from heed.training.run import Run, base_run


def test_a_directory_is_a_readable_name_and_the_id(student, run_of):
    run = run_of(student)
    assert run.directory.endswith(f"--{run.id}")
    assert run.directory.startswith("tiny-toy-full-toy")


def test_a_student_without_pretraining_has_no_base_run(student):
    assert base_run(student) is None


def test_the_base_of_a_student_does_not_depend_on_how_it_is_tuned(student, recipe_of):
    pretrained = replace(student, pretraining=recipe_of(seed=7))
    base = base_run(pretrained)
    assert is_component(base)
    assert base.student == student
    assert base.recipe == pretrained.pretraining
    tuned = [Run(student=pretrained, recipe=recipe_of(seed=s)) for s in (1, 2)]
    assert tuned[0].id != tuned[1].id
    assert base.id == base_run(replace(pretrained, name="renamed")).id


def test_other_pretraining_makes_another_run(student, recipe_of):
    runs = [
        Run(student=replace(student, pretraining=recipe_of(seed=s)), recipe=recipe_of())
        for s in (1, 2)
    ]
    assert runs[0].id != runs[1].id
