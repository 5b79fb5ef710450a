"""Which names do the options of predict.py and export.py accept? It imports nothing slow, so that --help is fast.

The modules named below hold one function for each name; a test checks that the two agree.
"""

FORMATS = ("submission", "csv", "raven", "audacity")  # inference/tables.py
COMBINATIONS = ("mean", "min", "rank")  # inference/combine.py
BACKENDS = ("torch", "onnx", "openvino")  # inference/backends.py
EXPORT_FORMATS = ("onnx", "openvino")  # inference/exported.py
RECORDING = "recording"  # --window-s: one row for each recording
DEVICES = ("auto", "cpu", "cuda")
DEFAULT_THRESHOLD = 0.25  # of Raven and Audacity tables, of a report and of --merge, unless one is given
