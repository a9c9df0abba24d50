from cvc import *
from cvc import __all__, __version__
