"""What is known of pipelines that make videos: for each, its kind and how its pictures enter (see `known.Known`)."""

from __future__ import annotations

from i2am.families.known import NONE, REFUSED, WORKS, Known, by_name

RULE = "Write a rule: reference=lambda seen: i2am.Tokens(...)"
ENCODED = "an image encoder's tokens have an attention call of their own beside the prompt's; the picture also enters through the channels"
FRAMES = "the frames that were given are the first tokens of the self-attention, in front of the frames that are generated"
CHANNELS = "the picture enters through the channels of the video's own tokens, and no token is the reference's alone"
NOISE = "the given video is what the noise is laid over"
COPIES = "it steps with copies of its scheduler, which cannot be counted; use i2am.Recorder in a loop of your own"
FOLDED = "its UNet folds the frames into the batch, so that a call's rows are frames and not videos; trace the layers with i2am.Recorder"
PROMPT = "the prompt alone; it has no picture"

GROUPS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    (WORKS, ENCODED, ("ChronoEditPipeline", "SkyReelsV2ImageToVideoPipeline")),
    (
        WORKS,
        ENCODED + "; Wan 2.2 has no such tokens: its large models have the picture in the channels alone, its small one as the first frame",
        ("WanImageToVideoPipeline",),
    ),
    (
        WORKS,
        "reference images are frames of their own in front of the video, in the self-attention of the control branch, and of the layers "
        "behind its first hint; a control video is residuals. One picture alone is one reference, several are image 1, image 2",
        ("WanVACEPipeline",),
    ),
    (
        WORKS,
        'the picture is "image features", tokens of an image encoder, and "reference frame", a latent frame in front of the video; pose '
        "and face are no reference. It makes the video in segments: read run.maps in callback_on_step_end at each one's last step",
        ("WanAnimatePipeline",),
    ),
    (
        WORKS,
        FRAMES + ' where the model has image_condition_type="token_replace"; with "latent_concat" the picture enters through the channels '
        "and among the prompt, and the trace says which rule to write",
        ("HunyuanVideoImageToVideoPipeline",),
    ),
    (WORKS, "SigLIP's tokens stand behind the video's and in front of the prompt's", ("HunyuanVideo15ImageToVideoPipeline",)),
    (
        WORKS,
        'the picture is "picture", a clean latent frame in front of the video, and "picture\'s features", SigLIP\'s tokens behind it. '
        "It makes the video in sections: read run.maps in callback_on_step_end at each one's last step",
        ("HunyuanVideoFramepackPipeline",),
    ),
    (WORKS, FRAMES, ("LTXImageToVideoPipeline", "Cosmos2VideoToWorldPipeline",
                     "Cosmos2_5_PredictBasePipeline", "Kandinsky5I2VPipeline", "AnyFlowPipeline")),
    (WORKS, FRAMES + "; each latent frame of another moment is a reference of its own before them", ("LTXConditionPipeline",)),
    (
        WORKS,
        "the picture is a frame in front of the history and of the video, in the self-attention. It makes the video in chunks: read "
        "run.maps in callback_on_step_end at each one's last step",
        ("HeliosPipeline",),
    ),
    (NONE, CHANNELS, ("CogVideoXImageToVideoPipeline", "CogVideoXFunControlPipeline", "HunyuanSkyreelsImageToVideoPipeline",
                      "LucyEditPipeline")),
    (NONE, NOISE, ("WanVideoToVideoPipeline", "CogVideoXVideoToVideoPipeline")),
    (NONE, PROMPT, ("WanPipeline", "SkyReelsV2Pipeline", "HunyuanVideoPipeline", "HunyuanVideo15Pipeline", "CogVideoXPipeline",
                    "LTXPipeline", "AllegroPipeline", "Cosmos2TextToImagePipeline", "Kandinsky5T2VPipeline")),
    (REFUSED, COPIES, ("SkyReelsV2DiffusionForcingPipeline", "SkyReelsV2DiffusionForcingImageToVideoPipeline",
                       "SkyReelsV2DiffusionForcingVideoToVideoPipeline")),
    (
        REFUSED,
        "it takes two steps of its scheduler for one, the first over both rows of the guidance, and none can be counted; trace "
        "Cosmos2VideoToWorldPipeline",
        ("CosmosVideoToWorldPipeline", "CosmosTextToWorldPipeline"),
    ),
    (
        REFUSED,
        "each chunk is made at several sizes, and a trace records calls of one size; trace HeliosPipeline",
        ("HeliosPyramidPipeline",),
    ),
    (
        REFUSED,
        "it goes over the video in windows, and a trace records calls of one size; trace LTXConditionPipeline",
        ("LTXI2VLongMultiPromptPipeline",),
    ),
    (
        REFUSED,
        f"frames that are finished are keys kept from calls before, and no call holds the whole video. {RULE}",
        ("AnyFlowFARPipeline",),
    ),
    (
        REFUSED,
        "its control enters as residuals, and the tokens of its picture are all zeros as the pipeline calls it: there is nothing to trace "
        "but the prompt",
        ("Cosmos2_5_TransferPipeline",),
    ),
    (
        REFUSED,
        "the face is read by attention that computes its own softmax (PerceiverCrossAttention) and cannot be seen; the picture enters "
        "through the channels. Use i2am.Recorder inside PerceiverCrossAttention.forward",
        ("ConsisIDPipeline",),
    ),
    (
        NONE,
        "the given frame is the first of the self-attention, which is linear and has no attention map",
        ("SanaImageToVideoPipeline",),
    ),
    (
        REFUSED,
        FOLDED,
        (
            "StableVideoDiffusionPipeline", "I2VGenXLPipeline", "AnimateDiffPipeline", "AnimateDiffSDXLPipeline",
            "AnimateDiffControlNetPipeline", "AnimateDiffSparseControlNetPipeline", "AnimateDiffVideoToVideoPipeline",
            "AnimateDiffVideoToVideoControlNetPipeline", "AnimateDiffPAGPipeline",
        ),
    ),
)  # fmt: skip
VIDEOS = by_name(tuple((Known(kind, how), names) for kind, how, names in GROUPS))
