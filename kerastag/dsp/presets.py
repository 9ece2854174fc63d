"""The front ends of the published systems, by name."""

from kerastag.dsp.front_end import FrontEnd

__all__ = ["FRONT_ENDS"]

FRONT_ENDS: dict[str, FrontEnd] = {
    front_end.name: front_end
    for front_end in (
        FrontEnd(
            name="panns",
            sample_rate=32_000,
            window_length=1024,
            hop_length=320,
            fft_length=1024,
            padding=512,
            num_mel_bins=64,
            min_hz=50.0,
            max_hz=14_000.0,
            mel_scale="slaney",
            mel_triangles="hz",
            mel_norm="slaney",
            log="decibel",
            floor=1e-10,
        ),
        FrontEnd(
            name="efficientat",
            sample_rate=32_000,
            window_length=800,
            hop_length=320,
            fft_length=1024,
            padding=400,
            periodic_window=False,
            preemphasis=0.97,
            num_mel_bins=128,
            min_hz=0.0,
            max_hz=16_000.0,
            floor=1e-5,
            shift=4.5,
            scale=5.0,
        ),
        # TALNet's pads with zeros, where this one reflects, and takes the first 400 of the 401 frames of ten seconds.
        FrontEnd(
            name="talnet",
            sample_rate=16_000,
            window_length=1024,
            hop_length=400,
            fft_length=4096,
            padding=512,
            spectrum="magnitude",
            num_mel_bins=64,
            min_hz=0.0,
            max_hz=8_000.0,
            mel_scale="slaney",
            mel_triangles="hz",
            mel_norm="slaney",
            log="decibel",
            floor=1e-10,
        ),
        FrontEnd(
            name="vggish",
            sample_rate=16_000,
            window_length=400,
            hop_length=160,
            fft_length=512,
            spectrum="magnitude",
            num_mel_bins=64,
            min_hz=125.0,
            max_hz=7_500.0,
            floor=0.01,
        ),
    )
}
"""Front ends by name: `panns`, `efficientat`, `talnet` and `vggish`."""
