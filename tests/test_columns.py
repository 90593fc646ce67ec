"""Which runs of a report belong together, what their columns are called, and whose times count."""

from handmade_runs import make_run

from mnist_lightning.report.columns import columns, machines, tidy, values
from mnist_lightning.report.runs import read_runs


def test_times_of_other_circumstances_are_left_out_and_their_accuracy_is_not(tmp_path):
    usual = [make_run(tmp_path, "1xcpu", 32, seed, 100.0, 0.99, 0.03) for seed in range(3)]
    other = {
        "resumed": {"summary": {"resumed": True}},
        "other work on the machine": {"summary": {"neighbours": {"own_cores": 1.0, "other_cores": 0.5}}},
    }
    for seed, each in enumerate(other.values(), len(usual)):
        make_run(tmp_path, "1xcpu", 32, seed, 300.0, 0.98, 0.04, **each)
    # A clock that moved within a run is no reason: it explains nothing.
    make_run(tmp_path, "1xcpu", 32, 9, 101.0, 0.98, 0.04, rates=(100.0, 80.0))
    table = tidy(columns(read_runs([tmp_path])))
    assert [each for each in table.left_out.unique() if each] == list(other)
    assert values(table, "seconds/fit").to_list() == [100.0, 100.0, 100.0, 101.0]
    assert len(values(table, "val/accuracy")) == 6 and values(table, "errors")["1xcpu", 32, 3] == 200
    # Runs of other code are another column, whose times stand beside these.
    make_run(tmp_path, "1xcpu", 32, 10, 50.0, 0.98, 0.04, machine={"code": "other"})
    assert {each.rest for each in columns(read_runs([tmp_path])).values()} == {'code "abc"', 'code "other"'}


def test_a_processor_is_one_machine_at_several_rates(tmp_path):
    for seed, rate in enumerate((100.0, 150.0)):
        make_run(tmp_path, "1xcpu", 32, seed, 100.0, 0.99, 0.03, rates=(rate, rate))
    make_run(tmp_path, "1xgpu", 32, 0, 10.0, 0.99, 0.03)
    assert set(machines(read_runs([tmp_path])).values()) == {"machine 1"}
    make_run(tmp_path, "1xcpu", 32, 2, 100.0, 0.99, 0.03, machine={"processor": "Z81"})
    found = columns(read_runs([tmp_path]))
    assert [each.name for each in found.values()] == ["1xcpu a", "1xcpu a", "1xcpu b", "1xgpu"]
    assert [each.rest for each in found.values()] == ["machine 1", "machine 1", "machine 2", "machine 1"]


def test_columns_have_short_names_and_say_in_what_they_are_not_the_papers(tmp_path):
    make_run(tmp_path, "1xcpu", 32, 0, 100.0, 0.99, 0.03)
    make_run(tmp_path, "1xcpu", 32, 1, 100.0, 0.99, 0.03, machine={"precision": "bf16-mixed"})
    make_run(tmp_path / "narrow", "1xcpu", 32, 0, 50.0, 0.98, 0.05, model_channels=[8, 16])
    make_run(tmp_path / "sample", "2xcpu", 32, 0, 50.0, 0.98, 0.05, summary={"data": "sample", "epochs": 10})
    make_run(tmp_path / "keras", "1xcpu", 32, 0, 500.0, 0.99, 0.03, summary={"program": "Keras"})
    found = dict.fromkeys(columns(read_runs([tmp_path])).values())
    assert [(each.name, each.network, each.unlike) for each in found] == [
        ("1xcpu, fp32 a", "", ()),
        ("1xcpu, fp32 b", "channels [8, 16]", ("channels [8, 16]",)),
        ("1xcpu, bf16", "", ()),
        ("1xcpu, Keras, fp32", "", ()),
        ("2xcpu, fp32", "", ('source "sample"',)),
    ]


def test_who_computed_the_convolutions_is_compared_within_a_network(tmp_path):
    for network, by in (("MNISTClassifier", "step.cpp"), ("Own", "PyTorch")):
        own = {"network": network, "convolutions": by}
        make_run(tmp_path / network, "1xcpu", 128, 0, 100.0, 0.99, 0.03, summary=own)
    assert {each.title for each in columns(read_runs([tmp_path])).values()} == {"1xcpu, fp32"}
    make_run(tmp_path / "without", "1xcpu", 128, 1, 300.0, 0.99, 0.03, summary={"convolutions": "PyTorch"})
    rest = {each.rest for each in columns(read_runs([tmp_path])).values()}
    assert rest == {'convolutions "step.cpp"', 'convolutions "PyTorch"'}
