"""ONNX Runtime with one thread where the code under test leaves the number to it: workers are what runs side by side.

Threads of a session wait by spinning, which on a machine whose cores all have a worker costs half as much again.
"""

import onnxruntime


class SessionOptions(onnxruntime.SessionOptions):
    def __init__(self):
        super().__init__()
        self.intra_op_num_threads = 1


class InferenceSession(onnxruntime.InferenceSession):
    def __init__(self, model, sess_options=None, *arguments, **options):
        super().__init__(model, sess_options or SessionOptions(), *arguments, **options)


def limit():
    onnxruntime.SessionOptions, onnxruntime.InferenceSession = SessionOptions, InferenceSession
