"""What the user wrote: hardened YAML loading with positions, and the pydantic models of a spec."""

from probekit.spec.load import LoadedSpec, check_spec, load_spec
from probekit.spec.model import Spec, TapEntry
from probekit.spec.splits import Splits

__all__ = ["LoadedSpec", "Spec", "Splits", "TapEntry", "check_spec", "load_spec"]
