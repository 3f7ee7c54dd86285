"""Every component by name, one literal table per kind.

Adding a component is a line here and a file of its own. Networks, data sets,
augmentations and optimizers have their tables where they live (`ltjax.models`,
`ltjax.data`, `ltjax.train.optim`).
"""

from ltjax.losses.label_aware_smoothing import LABEL_AWARE_SMOOTHING
from ltjax.methods import gradients, losses, rwsam, samplers, treatment, weights
from ltjax.methods.diffusion import denoising, features
from ltjax.methods.experts import dirmixe, ride, ride_router, sade
from ltjax.methods.multimodal import joint, late, ogm, reconboost
from ltjax.methods.noisy_label import (
    cdr,
    coteaching,
    har,
    rcal,
    rolt,
    sel_cl,
    sel_cl_tune,
)
from ltjax.methods.partial_label import cavl, corr, lw, proden, solar
from ltjax.methods.ranking import aucm, drauc, multi_label
from ltjax.methods.ranking import losses as pairs_and_rankings
from ltjax.methods.segmentation import aucseg, pixelwise
from ltjax.methods.self_supervised import (
    byol,
    clusters,
    dnc,
    moclr,
    moco,
    rotation,
    sdclr,
    simclr,
    simsiam,
)
from ltjax.methods.semi_supervised import (
    abc,
    acr,
    alignment,
    cossl,
    crest,
    darp,
    daso,
    dynamic_prior,
    fixmatch,
    mixmatch,
    remixmatch,
    simpro,
)
from ltjax.methods.supervised import (
    balanced_contrastive,
    cc_sam,
    cvs,
    kcl,
    paco,
    sup_con,
    supervised,
)
from ltjax.options import Component
from ltjax.resampling.repeat_factor import REPEAT_FACTOR

LOSSES: dict[str, Component] = {
    "ce": losses.CE,
    "focal": losses.FOCAL,
    "sigmoid": losses.SIGMOID,
    "sigmoid_focal": losses.SIGMOID_FOCAL,
    "ldam": losses.LDAM,
    "ldam_hinge": losses.LDAM_HINGE,
    "la": losses.LA,
    "balanced_softmax": losses.BALANCED_SOFTMAX,
    "cdt": losses.CDT,
    "vs": losses.VS,
    "tla_adrw": losses.TLA_ADRW,
    "cvs": cvs.CVS,
    "dot_regression": losses.DOT_REGRESSION,
    "label_aware_smoothing": LABEL_AWARE_SMOOTHING,
    "auc_square": pairs_and_rankings.AUC_SQUARE,
    "auc_hinge": pairs_and_rankings.AUC_HINGE,
    "auc_exp": pairs_and_rankings.AUC_EXP,
    "auc_logistic": pairs_and_rankings.AUC_LOGISTIC,
    "partial_auc": pairs_and_rankings.PARTIAL_AUC,
    "partial_auc_cvar": pairs_and_rankings.PARTIAL_AUC_CVAR,
    "partial_auc_kl": pairs_and_rankings.PARTIAL_AUC_KL,
    "autkc": pairs_and_rankings.AUTKC,
    "sigmoids": pairs_and_rankings.SIGMOIDS,
    "tkpr": pairs_and_rankings.TKPR,
    "distribution_balanced": pairs_and_rankings.DISTRIBUTION_BALANCED,
}

WEIGHTS: dict[str, Component] = {
    "none": weights.NONE,
    "class_balanced": weights.CLASS_BALANCED,
    "inverse_power": weights.INVERSE_POWER,
    "batch": weights.BATCH,
}

SAMPLERS: dict[str, Component] = {
    "instance": samplers.INSTANCE,
    "class_balanced": samplers.CLASS_BALANCED,
    "square_root": samplers.SQUARE_ROOT,
    "class_power": samplers.CLASS_POWER,
    "class_aware": samplers.CLASS_AWARE,
    "progressive": samplers.PROGRESSIVE,
    "effective_number": samplers.EFFECTIVE_NUMBER,
    "repeat_factor": REPEAT_FACTOR,
}

GRADIENTS: dict[str, Component] = {
    "plain": gradients.PLAIN,
    "sam": gradients.SAM,
    "asam": gradients.ASAM,
    "imbsam": gradients.IMBSAM,
    "sse_sam": gradients.SSE_SAM,
    "rwsam": rwsam.RWSAM,
    "focal_sam": gradients.FOCAL_SAM,
    "cc_sam": cc_sam.CC_SAM,
}

METHODS: dict[str, Component] = {
    "supervised": supervised.SUPERVISED,
    "fixmatch": fixmatch.FIXMATCH,
    "abc": abc.ABC,
    "daso": daso.DASO,
    "acr": acr.ACR,
    "simpro": simpro.SIMPRO,
    "mixmatch": mixmatch.MIXMATCH,
    "remixmatch": remixmatch.REMIXMATCH,
    "crest": crest.CREST,
    "cossl": cossl.COSSL,
    "proden": proden.PRODEN,
    "lw": lw.LW,
    "cavl": cavl.CAVL,
    "corr": corr.CORR,
    "solar": solar.SOLAR,
    "coteaching": coteaching.COTEACHING,
    "cdr": cdr.CDR,
    "har": har.HAR,
    "rolt": rolt.ROLT,
    "rcal": rcal.RCAL,
    "sel_cl": sel_cl.SEL_CL,
    "sel_cl_tune": sel_cl_tune.SEL_CL_TUNE,
    "simclr": simclr.SIMCLR,
    "moco": moco.MOCO,
    "sdclr": sdclr.SDCLR,
    "simsiam": simsiam.SIMSIAM,
    "byol": byol.BYOL,
    "moclr": moclr.MOCLR,
    "rotation": rotation.ROTATION,
    "clusters": clusters.CLUSTERS,
    "dnc": dnc.DNC,
    "sup_con": sup_con.SUP_CON,
    "kcl": kcl.KCL,
    "paco": paco.PACO,
    "balanced_contrastive": balanced_contrastive.BALANCED_CONTRASTIVE,
    "pixelwise": pixelwise.PIXELWISE,
    "aucseg": aucseg.AUCSEG,
    "ride": ride.RIDE,
    "ride_router": ride_router.RIDE_ROUTER,
    "sade": sade.SADE,
    "dirmixe": dirmixe.DIRMIXE,
    "reconboost": reconboost.RECONBOOST,
    "joint": joint.JOINT,
    "ogm": ogm.OGM,
    "late": late.LATE,
    "aucm": aucm.AUCM,
    "drauc": drauc.DRAUC,
    "multi_label": multi_label.MULTI_LABEL,
    "denoising": denoising.DENOISING,
    "diffusion_features": features.FEATURES,
}

PSEUDO_LABELS: dict[str, Component] = {
    "none": treatment.NONE,
    "align": alignment.ALIGN,
    "darp": darp.DARP,
    "dynamic_prior": dynamic_prior.DYNAMIC_PRIOR,
}
