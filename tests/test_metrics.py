import io
import json
import math
import sys

import numpy as np
import pytest
from tensorboardX.proto import event_pb2
from tensorboardX.record_writer import RecordWriter  # noqa: F401

from acereason_jax import metrics, types
