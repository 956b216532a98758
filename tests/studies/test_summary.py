"""The one table of the summary: evidence first, then this run's tables, foreign ones left aside."""

from __future__ import annotations

from audioldm_utils.results.evidence import provenance
from audioldm_utils.results.tables import ResultsBuilder, write
from audioldm_utils.studies.summary import by_chapter, overview, studies_of

OWN, FOREIGN = "a" * 64, "b" * 64


def wrong(study, given):
    raise AssertionError(f"{study} was not run")


def rows(checkpoint, value, clips=("one", "two")):
    builder = ResultsBuilder(checkpoint, 0)
    for clip in clips:
        builder.add(clip, "visqol", value, "MOS", method="vae")
        builder.add(clip, "visqol", 1.0, "MOS", method="vae", band="0-1 kHz")
    return builder.table()


def test_evidence_goes_before_tables_of_the_run(tmp_path):
    evidence, results = tmp_path / "evidence", tmp_path / "results"
    record = provenance("x", inputs=[], seeds=[0], shipped=["two"])
    write(rows(OWN, 4.0), evidence / "01_ladder", record)
    write(rows(FOREIGN, 9.0), evidence / "05_rates", record)
    write(rows(OWN, 2.0), results / "01_bottleneck_analysis" / "01_ladder")
    write(rows(OWN, 3.0), results / "05_ddcm_codec" / "05_rates")
    (results / "05_ddcm_codec" / "other.csv").write_text("a,b\n1,2\n")
    tables, rests = studies_of(results, evidence, lambda parts: OWN, lambda study, given: True)
    assert set(tables) == {"01_ladder", "05_rates"}
    assert rests == (
        "1 of 2 studies rest on tables stored in the repository, and on this run alone: 05_rates."
    )
    table = overview(tables.items()).set_index("chapter")
    assert table["ViSQOL, MOS ↑"].to_dict() == {"01": 4.0, "05": 3.0}
    assert table["n"].to_dict() == {"01": "1", "05": "2"}


def test_a_row_whose_numbers_are_of_unlike_many_clips_says_so():
    both = ResultsBuilder(OWN, 0)
    for clip in ("one", "two", "three"):
        both.add(clip, "visqol", 4.0, "MOS", method="vae")
    both.add("one", "clap_score", 0.5, "1", method="vae")
    assert overview([("01_ladder", both.table())])["n"].tolist() == ["1–3"]


def test_tables_of_clips_that_evidence_does_not_hold_go_before_it(tmp_path):
    evidence, results = tmp_path / "evidence", tmp_path / "results"
    record = provenance("x", inputs=[], seeds=[0], shipped=[])
    for study in ("01_ladder", "02_repair"):
        write(rows(OWN, 4.0), evidence / study, record)
    write(rows(OWN, 2.0), results / "01_bottleneck_analysis" / "01_ladder")
    tables, _ = studies_of(results, evidence, lambda parts: OWN, lambda study, given: False)
    table = overview(tables.items()).set_index("chapter")
    # Chapter 02 has not run: the evidence is all that there is.
    assert table["ViSQOL, MOS ↑"].to_dict() == {"01": 2.0, "02": 4.0}


def test_evidence_stands_for_the_parameters_that_a_table_was_made_with(tmp_path):
    evidence, results = tmp_path / "evidence", tmp_path / "results"
    write(rows(OWN, 4.0), evidence / "01_ladder", provenance("x", shipped=[]))
    asked = []
    place = results / "01_bottleneck_analysis" / "01_ladder"
    for record in ({"parameters": {"seed": 1, "rates": [1.0]}}, {"parameters": {"seed": 0}}, None):
        for file in place.parent.glob("*"):
            file.unlink()
        write(rows(OWN, 2.0), place, record)
        studies_of(results, evidence, lambda parts: OWN, lambda name, now: asked.append(dict(now)))
    assert asked == [{"seed": 1, "rates": [1.0]}, {"seed": 0}, {"seed": 0}]


def test_nothing_measured_is_an_empty_table(tmp_path):
    tables, _ = studies_of(tmp_path, tmp_path, lambda parts: OWN, wrong)
    assert overview(tables.items()).empty


def test_evidence_that_rests_on_some_components_goes_by_their_fingerprint(tmp_path):
    record = provenance("x", inputs=[], seeds=[0], shipped=[], parts=["vae", "vocoder"])
    write(rows(FOREIGN, 4.0), tmp_path / "01_ladder", record)
    write(rows(OWN, 4.0), tmp_path / "02_repair", record)
    tables, _ = studies_of(tmp_path, tmp_path, lambda parts: FOREIGN if parts else OWN, wrong)
    assert set(tables) == {"01_ladder"}


def test_a_chapter_shows_only_columns_that_it_filled():
    other = ResultsBuilder(OWN, 0)
    other.add("one", "clap_score", 0.5, "1", method="ddpm")
    table = overview([("01_ladder", rows(OWN, 4.0)), ("06_samples", other.table())])
    parts = dict(by_chapter(table))
    first, sixth = parts
    assert first.startswith("Chapter 01")
    assert "CLAP score ↑" not in parts[first]
    assert list(parts[sixth].columns) == ["method", "stage", "CLAP score ↑", "n"]
