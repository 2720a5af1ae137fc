"""Where things are in the repository."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
VECTORS = ROOT / "tests" / "vectors"
SHARED = ROOT.parent / "shared"  # papers and larger datasets, beside the repository where somebody has them
