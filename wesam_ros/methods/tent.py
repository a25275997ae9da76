"""TENT (Wang et al., ICLR 2021, arXiv 2006.10726, section 3.1; official code DequanWang/tent, tent.py: softmax_entropy).

    loss = H(p) = - sum over classes c of p_c log p_c, mean over the batch

Each pixel of each object's mask is a prediction of two classes, p = sigmoid(logit). TENT trains the scale and shift of normalisation
layers; here it trains the LoRA tensors, as all do. One view, without augmentation. No pseudo-label, no anchor.
"""

from __future__ import annotations

from torch import Tensor

from wesam_ros.adaptation.replay_buffer import BufferedFrame
from wesam_ros.methods.base import TrainedMethod, entropy


class Tent(TrainedMethod):
    """Entropy minimisation."""

    lr = 3e-4

    def loss(self, frame: BufferedFrame, chosen: Tensor) -> Tensor:
        (prediction,) = self.predict(frame, chosen, [frame.pixels], False, self.low_rank)
        return entropy(prediction.logits).mean()
