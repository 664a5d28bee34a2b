"""How wide deep networks are trained, by the name that a case file gives."""

from __future__ import annotations

from dataclasses import dataclass

from mvpde.registry import Registry


@dataclass(frozen=True)
class Mode:
    """One way.

    Attributes:
        sentence: what it is.
        scheme: of the time steps, "euler" or "heun".
        sampled: whether a step sees one sample instead of all data.
        prescribed: whether the samples are given.
        hot, cold: whether it is for positive temperature, and for temperature 0.
    """

    sentence: str
    scheme: str
    sampled: bool = False
    prescribed: bool = False
    hot: bool = False
    cold: bool = True

    def refuses(self, name: str, temperature: float) -> str | None:
        """Why networks are not trained in this way, called ``name``, at a temperature; None where they are."""
        if temperature > 0.0 and not self.hot:
            return f'is "{name}", and the model is at positive temperature; choose "langevin", or temperature 0'
        if temperature == 0.0 and not self.cold:
            return f'is "{name}", and the model is at temperature 0; choose "descent", or a temperature'
        return None


MODES: Registry[Mode] = Registry(
    "mode",
    {
        "descent": Mode("gradient descent on all data: Euler's steps, an error of first order", "euler"),
        "heun": Mode("descent on all data by Heun's steps, of second order", "heun"),
        "sgd": Mode("one-pass SGD: a step sees one sample drawn from the data, the same for all weights", "euler", sampled=True),
        "prescribed": Mode("SGD on given samples, the same in every run", "euler", sampled=True, prescribed=True),
        "langevin": Mode("noisy descent on all data by Heun's steps, at positive temperature", "heun", hot=True, cold=False),
    },
)
