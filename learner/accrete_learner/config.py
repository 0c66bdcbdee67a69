"""The configuration of a step's model, training and method. Standard library alone, so any process may import it."""

import difflib
from dataclasses import dataclass
from typing import Literal, get_args

from accrete_learner.backbone_names import EFFICIENTNET, ONNX, OURS, is_frozen, own_size, torchvision_names
from accrete_learner.method_names import available, begins_anew
from accrete_model.input_spec import InputSpec

Augmentation = Literal["auto", "none", "crop", "crop_flip", "eeil", "strong", "trivial"]
Precision = Literal["auto", "float32", "bfloat16"]
Device = Literal["auto", "cpu", "cuda"]
ScheduleChoice = Literal["own", "knee"]
DeepSteps = Literal["auto", "off"]
Rule = Literal["head", "nme", "knn", "mlp", "svm"]
RuleChoice = Literal["", "head", "nme", "knn", "mlp", "svm"]
Selection = Literal[
    "random",
    "herding",
    "histogram",
    "mnemonics",
    "mnemonics_fixed",
    "collage_resized",
    "collage_random_crop",
    "collage_centre_crop",
    "inversion_noise",
    "inversion_images",
    "inversion_herding",
    "adaptive_noise",
    "adaptive_images",
    "adaptive_herding",
]
Pixels = Literal["uint8", "float16"]
Layout = Literal["auto", "nchw", "nhwc"]
ChannelOrder = Literal["rgb", "bgr"]
Tokens = Literal["mean", "first"]
SelectionChoice = Literal[Literal[""], Selection]

IDENTITY = "identity"


def _check(ok: bool, field: str, value: object, allowed: str) -> None:
    if not ok:
        raise ValueError(f"{field} = {value!r}: {allowed}")


def _check_choice(field: str, value: str, allowed: tuple[str, ...]) -> None:
    _check(value in allowed, field, value, "must be one of " + ", ".join(repr(choice) for choice in allowed))


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The backbone and the form of its input.

    Raises:
        ValueError: on a field out of range; the message names the field, its value and what is allowed.
    """

    backbone: str = "resnet32"
    """`efficientnet_lite0` (for photographs, with ImageNet's weights), `resnet32` (the papers' network for CIFAR),
    `resnet8` (for small machines and small images), `identity` (the application sends embeddings), any torchvision
    model's name, or `onnx:FILE`, any network from images to features as an ONNX file, which is not trained."""
    input_size: int = 0
    """Height and width of an image in pixels. 0: what the backbone was made for, 32 for `resnet32` and `resnet8` and
    the file's with `onnx:FILE`, 224 for nearly all others. Not used by `identity`."""
    shorter_side: int | None = None
    """Pixels that an image's shorter side is brought to, before its middle is taken as the input. 0: the whole image is
    stretched to a square. An image that has the input's size is taken as it is. None: 8/7 of `input_size` (256 for 224)
    with `efficientnet_lite0` and `onnx:FILE`, the form of most networks for photographs; 0 with all others. Not used by
    `identity`."""
    channels: int = 3
    """3 for colour, 1 for grey. Not used by `identity`."""
    embedding: int = 0
    """Length of the embedding vectors. Used with `identity` alone, which needs it."""
    weights: str = ""
    """What the first step starts from, a path to a .safetensors or .pth state dict or torchvision's name of a set of
    weights (`DEFAULT`, `IMAGENET1K_V2`). Empty: ImageNet's for `efficientnet_lite0`, random for all others. An
    `onnx:FILE` has its own."""
    layout: Layout = "auto"
    """Order of dimensions in which the network of an `onnx:FILE` takes images: `nchw` (channels before height and
    width, as PyTorch has them) or `nhwc` (after them, as TensorFlow has them). `auto`: what the file says."""
    channel_order: ChannelOrder = "rgb"
    """Order of colours in which the network of an `onnx:FILE` takes images; `bgr` is OpenCV's."""
    mean: tuple[float, ...] = ()
    """What the network of an `onnx:FILE` wants subtracted of pixels in 0 to 1, per channel or one for all. Empty:
    ImageNet's, `[0.485, 0.456, 0.406]`; nothing for a network that takes uint8. CLIP has `[0.481, 0.458, 0.408]`."""
    std: tuple[float, ...] = ()
    """What it wants pixels in 0 to 1 divided by then. Empty: ImageNet's, `[0.229, 0.224, 0.225]`. For pixels in -1 to
    1, mean and std are `[0.5]`; for pixels in 0 to 255, mean is `[0]` and std `[0.00392157]`."""
    outputs: tuple[str, ...] = ()
    """What is taken of the network of an `onnx:FILE`, by the names of its outputs or of values inside it. Several are
    joined, each scaled to length 1, all but the first weighted 0.4. Empty: its only output."""
    tokens: Tokens = "mean"
    """What is taken of an output with a vector for each part of the image, as vision transformers have: their `mean`,
    or the `first`, which is the class token."""

    def __post_init__(self) -> None:
        self._check_backbone()
        for name in ("mean", "std", "outputs"):
            object.__setattr__(self, name, tuple(getattr(self, name)))  # lists, where they come from a file
        _check_choice("layout", self.layout, get_args(Layout))
        _check_choice("channel_order", self.channel_order, get_args(ChannelOrder))
        _check_choice("tokens", self.tokens, get_args(Tokens))
        self._check_used_by_onnx()
        if self.backbone == IDENTITY:
            _check(
                1 <= self.embedding <= 65536, "embedding", self.embedding, "must be 1 to 65536 with backbone identity"
            )
            _check(not self.weights, "weights", self.weights, "must be empty with identity")
        else:
            self._fix_size()
            _check(self.channels in (1, 3), "channels", self.channels, "must be 1 or 3")
            allowed = f"must be 0, or input_size ({self.input_size}) to 8192 pixels"
            side = self._own_shorter_side() if self.shorter_side is None else self.shorter_side
            _check(side == 0 or self.input_size <= side <= 8192, "shorter_side", side, allowed)
            object.__setattr__(self, "shorter_side", side)

    def _fix_size(self) -> None:
        """Put the backbone's own size in place of 0, so that nobody who reads the settings must know it."""
        if self.input_size == 0:
            object.__setattr__(self, "input_size", self._own_size())
        allowed = "must be 8 to 4096 pixels, or 0 for the backbone's own size"
        _check(8 <= self.input_size <= 4096, "input_size", self.input_size, allowed)
        if self.backbone == EFFICIENTNET:
            fits = self.input_size % 32 == 0 and self.input_size <= 512
            _check(fits, "input_size", self.input_size, f"{EFFICIENTNET} takes 32 to 512 pixels in steps of 32")

    def _own_shorter_side(self) -> int:
        return self.input_size * 8 // 7 if is_frozen(self.backbone) else 0

    def _own_size(self) -> int:
        if not self.backbone.startswith(ONNX):
            return own_size(self.backbone)
        advice = "a server on another machine does without the file where model.input_size is set"
        try:
            from accrete_model.frozen import onnx_file  # brings onnx, which nothing else here needs
        except ModuleNotFoundError as error:
            raise ValueError(
                f"backbone = {self.backbone!r}: its size cannot be read here ({error}); {advice}"
            ) from error
        try:
            return onnx_file.own_size(onnx_file.path_of(self.backbone), self.layout)
        except onnx_file.FormError as error:
            raise ValueError(f"{str(error).removeprefix('model.')}; {advice}") from error

    def _check_used_by_onnx(self) -> None:
        if self.backbone.startswith(ONNX):
            _check(not self.weights, "weights", self.weights, f"must be empty with {ONNX}FILE, which has its own")
            return
        for field in ("layout", "channel_order", "mean", "std", "outputs", "tokens"):
            value, unset = getattr(self, field), type(self).__dataclass_fields__[field].default
            allowed = f"is for backbone = '{ONNX}FILE' alone; {self.backbone} has its own"
            _check(value == unset, field, list(value) if isinstance(value, tuple) else value, allowed)

    def _check_backbone(self) -> None:
        if self.backbone in OURS or self.backbone.removeprefix(ONNX) not in ("", self.backbone):
            return
        known = torchvision_names()
        if not known and self.backbone.isidentifier():
            return  # torchvision is not installed: a server does without, and a learner says that it needs it
        near = difflib.get_close_matches(self.backbone, [*OURS, *known], n=3)
        hint = f"; near it: {', '.join(near)}" if near else ""
        allowed = f"must be {', '.join(OURS)}, {ONNX}FILE or one of torchvision's {len(known)} image classifiers{hint}"
        _check(self.backbone in known, "backbone", self.backbone, allowed)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one example, (height, width, channels) of an image or (length,) of an embedding."""
        if self.backbone == IDENTITY:
            return (self.embedding,)
        return (self.input_size, self.input_size, self.channels)

    @property
    def input_dtype(self) -> Literal["uint8", "float32"]:
        """Number type of an example."""
        return "float32" if self.backbone == IDENTITY else "uint8"

    @property
    def input_spec(self) -> InputSpec:
        """Form of one input, and how images come to it."""
        return InputSpec(self.input_shape, self.input_dtype, 0 if self.backbone == IDENTITY else self.shorter_side or 0)


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How a step trains. `None` leaves a number to the method, which has its paper's.

    Raises:
        ValueError: on a field out of range; the message names the field, its value and what is allowed.
    """

    base_epochs: int | None = None
    """Epochs of the first step, over all its examples."""
    epochs: int | None = None
    """Epochs of each later step. `foster` trains twice in one: as many, and then as many in proportion."""
    batch_size: int | None = None
    """Examples per batch. Unset: the method's, which is 128 for all but `acil`, `acil_blocks` and `ds_al` (256)."""
    copies: int | None = None
    """Times that an epoch takes each example, augmented anew each time; 1 for all methods but EEIL, which takes 12."""
    learning_rate: float | None = None
    """Learning rate of SGD at the start of the method's schedule; `knee` has its own factor on it."""
    schedule: ScheduleChoice = "own"
    """How the rate goes. `own`: by steps, as in each method's paper. `knee`: up in three epochs to 2.5 times
    `learning_rate`, held to the half, then linearly down to nothing, with Nesterov's momentum, mirror images in turns,
    and the mean of the weights over the last fifth. It is made for fewer epochs, say a quarter, which are set apart
    from it."""
    weight_decay: float | None = None
    """L2 penalty on the trained parameters."""
    augmentation: Augmentation = "auto"
    """`auto`: shifted crops and mirror images for the CIFAR networks and torchvision's, none for `identity`. Choose
    `crop` where a mirror image means something else, as with digits and letters. `eeil`: brightness or contrast, a crop
    and a mirror image, one of EEIL's twelve at a time. `strong`: crops, mirror images, AutoAugment and Cutout.
    `trivial`: crops, mirror images and TrivialAugment."""
    precision: Precision = "auto"
    """`auto`: bfloat16 where the hardware multiplies it fast (CUDA; CPUs with AVX512-BF16 or AMX), else float32."""
    compile: bool = False
    """Let torch.compile make the network faster before it trains, on a GPU with captured graphs. For GPUs, where small
    kernels that are launched one by one wait for each other; a CPU gains nothing and compiles for some 20 s per
    step."""
    max_minutes: float | None = None
    """Minutes that a training may take, by the time of its first batches. Epochs that do not fit are left out, one at
    least is made, and `status` says so. None: 10 for a deep step on a CPU, no bound for all else."""
    ranks: int = 1
    """Processes that train a step together, each on a core or a GPU of its own with a share of every batch. They change
    how fast a step is and not what it learns. Deep steps and `analytic` have one, whatever this says."""
    threads: int = 0
    """CPU threads of the trainer, for all its ranks. 0 is all cores that it may use, by affinity, its container's
    quota and OMP_NUM_THREADS, which its low priority makes safe."""
    device: Device = "auto"
    """`auto`: the GPU when there is one."""
    seed: int = 1993
    """Seed of every random choice in a step; 1993 is the seed of the papers' class order."""

    def __post_init__(self) -> None:
        for field, count in (("base_epochs", self.base_epochs), ("epochs", self.epochs)):
            _check(count is None or 1 <= count <= 100_000, field, count, "must be 1 to 100000")
        _check(self.copies is None or 1 <= self.copies <= 1000, "copies", self.copies, "must be 1 to 1000")
        size = self.batch_size
        _check(size is None or 1 <= size <= 65536, "batch_size", size, "must be 1 to 65536")
        rate = self.learning_rate
        _check(rate is None or 0.0 < rate <= 100.0, "learning_rate", rate, "must be above 0 and at most 100")
        decay = self.weight_decay
        _check(decay is None or 0.0 <= decay <= 1.0, "weight_decay", decay, "must be 0 to 1")
        _check(0 <= self.threads <= 1024, "threads", self.threads, "must be 0 (all cores) to 1024")
        _check(1 <= self.ranks <= 1024, "ranks", self.ranks, "must be 1 to 1024")
        _check(self.ranks == 1 or not self.compile, "ranks", self.ranks, "must be 1 where compile is true")
        minutes = self.max_minutes
        allowed = "must be above 0 and at most 100000"
        _check(minutes is None or 0.0 < minutes <= 100_000.0, "max_minutes", minutes, allowed)
        _check(0 <= self.seed < 2**63, "seed", self.seed, "must be 0 to 2**63 - 1")
        _check_choice("augmentation", self.augmentation, get_args(Augmentation))
        _check_choice("schedule", self.schedule, get_args(ScheduleChoice))
        _check_choice("precision", self.precision, ("auto", "float32", "bfloat16"))
        _check_choice("device", self.device, ("auto", "cpu", "cuda"))


@dataclass(frozen=True, kw_only=True)
class DeepConfig:
    """Deep steps, which train the backbone that the method `analytic` learns on. Only `efficientnet_lite0` is trained.

    Raises:
        ValueError: on a field out of range; the message names the field, its value and what is allowed.
    """

    steps: DeepSteps = "auto"
    """`auto`: when nothing was learned for `idle_s` and enough is new, or by hand (`accrete trigger --deep`). `off`:
    none, and a backbone that one tuned gives way to the one it came from at the next start."""
    idle_s: float = 60.0
    """Seconds without a step before a deep one starts by itself."""
    growth: float = 0.2
    """Share of examples or classes that must be new since the last deep step."""
    margin: float = 0.01
    """Accuracy that the tuned backbone must gain on images that it did not see, to be used; 0.01: one point. It
    must also be surely above nothing, by the spread of the differences (one-sided, 95 %). 0: it must lose nothing; a
    negative margin allows a loss: for a backbone that is to be replaced, since it saw what was deleted. A step that was
    asked for by hand must lose nothing, or no more than a negative margin allows: where images are much alike, those
    that judge are all answered right before, and no gain shows."""
    epochs: int = 20
    """Times that each example is taken, at most; `training.max_minutes` may allow fewer."""

    def __post_init__(self) -> None:
        _check_choice("steps", self.steps, get_args(DeepSteps))
        _check(0.0 <= self.idle_s <= 1e6, "idle_s", self.idle_s, "must be 0 to 1000000 seconds")
        _check(0.0 <= self.growth <= 100.0, "growth", self.growth, "must be 0 to 100; 0.2 is a fifth more")
        _check(-1.0 <= self.margin <= 1.0, "margin", self.margin, "must be -1 to 1")
        _check(1 <= self.epochs <= 100_000, "epochs", self.epochs, "must be 1 to 100000")


@dataclass(frozen=True, kw_only=True)
class MethodConfig:
    """Which method learns, and which of its choices to replace.

    Raises:
        ValueError: on a field out of range; the message names the field, its value and what is allowed.
    """

    name: str = "lucir"
    """A name from docs/methods.md. LUCIR needs no validation data and does well from few classes on."""
    rule: RuleChoice = ""
    """How a version predicts: its `head`; `nme`, the nearest mean of exemplars; or `knn`, `mlp` or `svm`, fitted on the
    exemplars' features. Empty: the method's own."""
    selection: SelectionChoice = ""
    """How exemplars are chosen or made. Empty: the method's own."""
    synthesis_iterations: int | None = None
    """Iterations of mnemonics and of inversion, which make exemplars by optimisation. None: their own, which fit a
    CPU."""
    weight_transfer: bool = False
    """Later steps train scales of the filters in place of the filters, by which mnemonics training forgets less (Liu et
    al., CVPR 2020, section 4.4)."""
    random_features: int | None = None
    """Random features that `ranpac`, `acil`, `ds_al` and both `_blocks` regress on, where they begin. None: 2,000 for
    `ranpac` and `ranpac_blocks`, 8,192 for the others. A step's time grows with the square of it, and so does what is
    kept: 32 MB for 2,000."""
    exemplar_pixels: Pixels = "uint8"
    """How exemplars that mnemonics made are kept, in whole grey levels or with a fraction in twice the bytes."""

    @property
    def begins_anew(self) -> bool:
        """Whether each step trains from the beginning and keeps nothing of the version before it."""
        return begins_anew(self.name)

    def __post_init__(self) -> None:
        _check_choice("name", self.name, available())
        _check_choice("rule", self.rule, get_args(RuleChoice))
        _check_choice("selection", self.selection, get_args(SelectionChoice))
        iterations = self.synthesis_iterations
        _check(
            iterations is None or 1 <= iterations <= 1_000_000,
            "synthesis_iterations",
            iterations,
            "must be 1 to 1000000",
        )
        features = self.random_features
        _check(features is None or 1 <= features <= 32_768, "random_features", features, "must be 1 to 32768")
        _check_choice("exemplar_pixels", self.exemplar_pixels, get_args(Pixels))
