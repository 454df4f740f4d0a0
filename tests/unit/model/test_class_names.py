"""What a training takes over from base weights that know other class names."""

from __future__ import annotations

from its_platform.model.ultralytics_trainer import names_to_carry_over

COCO = {0: "person", 1: "bicycle", 2: "car", 3: "motorcycle", 5: "bus", 7: "truck"}


def test_a_class_of_the_same_name_stays_what_it_is():
    assert names_to_carry_over(COCO, ["truck", "Car"]) == COCO


def test_another_word_for_a_known_thing_takes_its_place():
    found = names_to_carry_over(COCO, ["pedestrian", "car"])
    assert found == {**COCO, 0: "pedestrian"}


def test_the_likeliest_of_two_words_is_taken():
    assert names_to_carry_over(COCO, ["bike"]) == {**COCO, 3: "bike"}


def test_a_name_that_is_wanted_itself_is_not_given_away():
    assert names_to_carry_over(COCO, ["bike", "motorcycle"]) == {**COCO, 1: "bike"}
    assert names_to_carry_over(COCO, ["vehicle", "car"]) == COCO


def test_one_row_serves_one_class():
    found = names_to_carry_over({0: "car"}, ["van", "vehicle"])
    assert found == {0: "van"}
    assert names_to_carry_over({0: "motorcycle"}, ["bike", "motorbike"]) == {0: "bike"}


def test_weights_that_know_nothing_of_it_keep_their_names():
    assert names_to_carry_over(COCO, ["tram"]) == COCO
