"""Learning in closed form on features of a frozen backbone. Importing this package imports no torch."""

from accrete_learner.analytic.head import AnalyticHead, Earlier, fit
from accrete_learner.analytic.judgement import Judgement
from accrete_learner.analytic.sample import choose
from accrete_learner.analytic.statistics import Statistics

__all__ = ["AnalyticHead", "Earlier", "Judgement", "Statistics", "choose", "fit"]
