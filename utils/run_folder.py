"""What are the files in a run folder called? Other programs read them, so these names do not change."""

CONFIG = "config.ini"  # the settings, resolved, without a token
LABELS = "labels.csv"  # a row for each class: label, scientific_name, common_name
SPLIT = "split.csv"  # a row for each recording: filename, label, group, split
CONTENT = "content.csv"  # a row a recording: filename, and digests of its bytes and its annotations
SEPARATOR = ";"  # between the labels of a recording in SPLIT; a label may contain blanks
BEST, LAST, PREV = "best.pt", "last.pt", "prev.pt"  # checkpoints; PREV is the LAST of the save before
METRICS = "metrics.csv"  # a row for each epoch
EPOCHS = "metrics.jsonl"  # the same, with clock and speed
SUMMARY = "summary.json"  # a finished run has it
TEST_SCORES = "test_scores.csv"  # a row for each recording of the test subset, a column for each class
THRESHOLDS = "thresholds.json"  # thresholds and calibration of the weights, once they are fitted
EVALUATION = "evaluation"  # a folder: what evaluate.py found
REPORT = "report.html"  # the page of the run
DOUBTS = "doubts.csv"  # the recordings that were scored; those whose scores contradict their labels most are first
LOG = "log.txt"
# In a folder of folds: the settings of all its runs, and how many runs there are.
RECIPE, FOLDS = "recipe.ini", "folds.json"
