"""Names by which masks are asked for, known before torch is loaded; what they stand for is told in `crf` and `learn`"""

CRF_NAMES = ("irn-label", "psa", "ssdd", "deeplab-test", "cian-test", "seam-test", "mctformer-test", "weaktr-test")
RECIPE_NAMES = ("deeplab-pytorch", "advcam-recipe", "wr38", "small", "scenes")
