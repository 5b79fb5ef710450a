"""The names of the files in a run folder: a promise to whoever reads one, other programs among them."""

CONFIG = "config.ini"  # the settings, resolved, without a token
LABELS = "labels.csv"  # a row a class: label, scientific_name, common_name
SPLIT = "split.csv"  # a row a recording: filename, label, group, split
CONTENT = "content.csv"  # a row a recording: filename, and digests of its bytes and its annotations
SEPARATOR = ";"  # of the labels of a recording in SPLIT; a label may hold blanks
BEST, LAST, PREV = "best.pt", "last.pt", "prev.pt"  # checkpoints; PREV is the LAST before
METRICS = "metrics.csv"  # a row an epoch
EPOCHS = "metrics.jsonl"  # the same, with clock and speed
SUMMARY = "summary.json"  # a finished run has it
TEST_SCORES = "test_scores.csv"  # a row a recording of the test part, a column a class
THRESHOLDS = "thresholds.json"  # thresholds and calibration of the weights, once they are fitted
EVALUATION = "evaluation"  # a folder: what evaluate.py says of the run
REPORT = "report.html"  # the page of the run
DOUBTS = "doubts.csv"  # the recordings that were scored, those whose scores speak most against their labels first
LOG = "log.txt"
# Of a folder of folds: the settings of all its runs, and how many there are.
RECIPE, FOLDS = "recipe.ini", "folds.json"
