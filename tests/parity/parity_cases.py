"The catalogue and the stored pictures, for several tests of the room."

import json
from pathlib import Path

import pandas as pd
from conftest import ROOT

import mmpc_analysis

DATA = ROOT / "tests" / "data" / "parity"
PICTURES = json.loads((DATA / "pictures.json").read_text("utf-8"))
CATALOGUE = Path(mmpc_analysis.__file__).parent / "data" / "catalogue"
ITEMS = pd.read_csv(CATALOGUE / "items.csv", dtype=str)
SOME = ITEMS.groupby("category").head(25).reset_index(drop=True)
