"""How the promptable model is built and trained."""

from dataclasses import dataclass

import torch
from transformers import SamConfig, SamMaskDecoderConfig, SamModel, SamPromptEncoderConfig, SamVisionConfig

from fewshot_node.vision.backbone import InputScale

INPUT_SCALE = InputScale(mean=(0.35,) * 3, std=(0.3,) * 3)
"""Middle and spread of synthetic and of real images on 0..1."""


@dataclass(frozen=True, slots=True)
class PromptableSettings:
    """How the promptable model is built and trained.

    Attributes
    ----------
    steps, warmup_steps
        Optimiser steps in all, and those over which the learning rate rises.
    batch_crops, regions
        Crops a step, and regions that each is asked about.
    image_px, patch_px
        Side of a crop as the model sees it, and of the patches that are its tokens.
    width, layers, heads, decoder_width
        Of the image encoder's transformer and of prompt encoder and mask decoder.
    map_px
        Side of a label map.
    learning_rate, weight_decay
        AdamW's.
    seed, threads, checkpoint_every_s
        Seed of everything random; CPU threads; seconds between checkpoints.
    held_out_crops
        Crops of unseen maps that the score is taken on.
    """

    steps: int = 4000
    warmup_steps: int = 100
    batch_crops: int = 16
    regions: int = 2
    image_px: int = 128
    patch_px: int = 8
    width: int = 160
    layers: int = 6
    heads: int = 5
    decoder_width: int = 128
    map_px: int = 320
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    seed: int = 20241
    threads: int = 2
    checkpoint_every_s: float = 180.0
    held_out_crops: int = 96


def new_model(settings: PromptableSettings) -> SamModel:
    """Return the untrained network; seed torch's generator first."""
    vision = SamVisionConfig(
        hidden_size=settings.width,
        output_channels=settings.decoder_width,
        num_pos_feats=settings.decoder_width // 2,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        image_size=settings.image_px,
        patch_size=settings.patch_px,
        mlp_dim=4 * settings.width,
        use_rel_pos=False,
        # Every layer sees the whole crop: there are few tokens.
        global_attn_indexes=list(range(settings.layers)),
    )
    prompt = SamPromptEncoderConfig(
        hidden_size=settings.decoder_width, image_size=settings.image_px, patch_size=settings.patch_px
    )
    decoder = SamMaskDecoderConfig(
        hidden_size=settings.decoder_width,
        mlp_dim=4 * settings.decoder_width,
        num_attention_heads=4,
        iou_head_hidden_dim=settings.decoder_width,
    )
    config = SamConfig(
        vision_config=vision.to_dict(), prompt_encoder_config=prompt.to_dict(), mask_decoder_config=decoder.to_dict()
    )
    model = SamModel(config)
    _set_places(model, settings.decoder_width // 2)
    return model


def _set_places(model: SamModel, count: int) -> None:
    """Draw the frequencies of places as SAM's authors do, of unit spread, and keep them as they are.

    `transformers` draws them some hundred times wider, where neighbouring pixels have nothing in common;
    released weights overwrite that, a model trained from nothing would keep it.
    """
    frequencies = torch.randn(2, count)
    for owner in (model.shared_image_embedding, model.prompt_encoder.shared_embedding):
        owner.positional_embedding.requires_grad_(False).copy_(frequencies)
