"""Florence-2 with a grounding head: every image token scores every prompt and proposes one box.

Travels with the checkpoint (`auto_map`), so that `transformers.AutoModel.from_pretrained(path,
trust_remote_code=True)` rebuilds it anywhere. It therefore knows torch and transformers only, nothing
of this project.

The backbone is transformers' native Florence2: DaViT, projector, BART encoder and decoder. The
generative reading is the parent class unchanged; two learned vectors may stand in for locations that are not
read yet, so that several are read at once. The grounding reading runs the BART encoder over the image tokens
alone and over each prompt alone:

    match   sigmoid(scale * <image token, prompt embedding> + bias)
    box     four distributions over the location vocabulary, scored against the tied embeddings of
            Florence-2's location tokens, read by soft-argmax as distances from the token's own centre.
            Distances instead of positions make the reading the same everywhere in the tile.

With `fine_tokens` each image token becomes four before it is matched, which also see what DaViT's stage before the
last saw at their place: half the stride, for defects that are smaller than a token.

Both readings can learn from pictures smaller than the tile: a cell of a smaller grid gets the positions that stand
at the same relative place of the tile's grid, interpolated. At the tile's own size nothing is interpolated.
"""

import math
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from transformers import Florence2Config, Florence2ForConditionalGeneration
from transformers.models.florence2.modeling_florence2 import Florence2VisionLearnedAbsolutePositionEmbedding2D

# The matrices around the hidden channels of a feed-forward block: BART's and DaViT's, and that of fine tokens.
FEED_FORWARDS = (("fc1", "fc2"), ("expand", "reduce"))


class Florence2GroundingConfig(Florence2Config):
    """Florence-2's configuration and what the grounding head needs beyond it."""

    model_type = "florence2_grounding"

    tile_size: int = 256  # pixels; the only size that the image positions were trained for
    boxes_per_tile: int = 100  # boxes that leave the detector per tile
    location_token_id: int = 50269  # id of <loc_0>; the other 999 follow
    image_mean: float | list[float] | tuple[float, ...] = (0.5, 0.5, 0.5)  # of pixel values in 0..1, per channel
    image_std: float | list[float] | tuple[float, ...] = (0.5, 0.5, 0.5)  # a single number stands for all channels
    fine_tokens: bool = False  # the grounding reading has four tokens where the backbone has one
    pruned_ffn: dict[str, int] | None = None  # hidden channels left in pruned feed-forward blocks, by module name
    box_slots: bool = False  # whether the network has learned to read a box's locations at once
    outlines: bool = False  # whether the network has learned to answer a region with the outline of what is in it


class FineTokens(nn.Module):
    """Four tokens from each image token, with what an earlier stage saw at twice the resolution.

    Their neighbourhood is mixed by a block as ConvNeXt has it (Liu et al., A ConvNet for the 2020s, 2022).
    """

    def __init__(self, width: int, channels: int) -> None:
        super().__init__()
        self.split = nn.Linear(width, 4 * width)
        self.early_norm = nn.LayerNorm(channels)
        self.early_projection = nn.Linear(channels, width)
        self.mixing = nn.Conv2d(width, width, 5, padding=2, groups=width)
        self.mixing_norm = nn.LayerNorm(width)
        self.expand = nn.Linear(width, 2 * width)
        self.reduce = nn.Linear(2 * width, width)

    @torch.no_grad()
    def start_as_copies(self) -> None:
        """Each of the four is the token it comes from: what a checkpoint could do without them, it still does."""
        for layer in (self.split, self.early_projection, self.reduce):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        self.split.weight.copy_(torch.eye(self.split.in_features).repeat(4, 1))

    def forward(self, states: Tensor, early: Tensor) -> Tensor:
        """Image tokens (B, H * W, D) and an earlier stage's (B, C, 2H, 2W) -> tokens (B, 2H * 2W, D), row by row."""
        height, width = early.shape[-2:]
        cells = self.split(states).unflatten(-1, (2, 2, -1)).unflatten(1, (height // 2, width // 2))
        tokens = cells.transpose(2, 3).flatten(1, 2).flatten(2, 3)  # (B, 2H, 2W, D)
        tokens = tokens + self.early_projection(self.early_norm(early.permute(0, 2, 3, 1)))
        mixed = self.mixing(tokens.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        mixed = self.reduce(F.gelu(self.expand(self.mixing_norm(mixed))))
        fine: Tensor = (tokens + mixed).flatten(1, 2)
        return fine


class GroundingHead(nn.Module):
    """Scores image tokens against prompts and reads a box from each.

    `early_channels` are those of the stage that fine tokens see; none: there are no fine tokens.
    """

    num_bins: ClassVar[int] = 1000

    def __init__(self, width: int, early_channels: int | None = None) -> None:
        super().__init__()
        self.fine = None if early_channels is None else FineTokens(width, early_channels)
        self.image_norm = nn.LayerNorm(width)
        self.image_projection = nn.Linear(width, width)
        self.prompt_projection = nn.Linear(width, width)
        self.edge_projection = nn.Linear(width, 4 * width)
        self.edge_bias = nn.Parameter(torch.zeros(4, self.num_bins))
        self.match_scale = nn.Parameter(torch.tensor(1.0))
        self.match_bias = nn.Parameter(torch.tensor(-4.6))  # sigmoid = 0.01: few tokens show a defect

    def pool_prompt(self, states: Tensor, attention_mask: Tensor) -> Tensor:
        """Encoder states (P, L, D) of prompts to unit embeddings (P, D): projected masked mean."""
        mask = attention_mask.to(states.dtype)[..., None]
        mean = (states * mask).sum(1) / mask.sum(1).clamp(min=1)
        projected: Tensor = self.prompt_projection(mean)
        embeddings: Tensor = projected / projected.norm(dim=-1, keepdim=True).clamp(min=1e-6)
        return embeddings

    def match(self, states: Tensor, prompt_embeddings: Tensor) -> Tensor:
        """Image tokens (B, N, D) against prompts (B, P, D) or (P, D) -> logits (B, N, P)."""
        image: Tensor = self.image_projection(self.image_norm(states))
        similarity = image @ prompt_embeddings.transpose(-1, -2)
        return similarity * self.match_scale + self.match_bias

    def edges(self, states: Tensor, location_embeddings: Tensor) -> Tensor:
        """Image tokens (..., D) -> logits (..., 4, 1000) of the distances to left, top, right, bottom."""
        queries: Tensor = self.edge_projection(self.image_norm(states)).unflatten(-1, (4, -1))
        return queries @ location_embeddings.T + self.edge_bias

    def read_boxes(self, edge_logits: Tensor, centres_xy: Tensor) -> Tensor:
        """Edge logits (..., 4, 1000) at token centres (..., 2) -> xyxy (..., 4), fractions of the tile.

        Bin q stands for the signed distance (q + 0.5 - 500) / 500 tiles from the centre.
        """
        bins = torch.arange(self.num_bins, device=edge_logits.device, dtype=edge_logits.dtype)
        distances = (bins + 0.5) / (self.num_bins / 2) - 1
        expected = (edge_logits.softmax(-1) * distances).sum(-1)
        return torch.cat([centres_xy, centres_xy], -1) + expected


class RelativePositions(Florence2VisionLearnedAbsolutePositionEmbedding2D):
    """The row and column embeddings that `learned` has for a grid of `side` cells, for smaller grids too."""

    def __init__(self, learned: Florence2VisionLearnedAbsolutePositionEmbedding2D, side: int) -> None:
        nn.Module.__init__(self)  # the parent's would draw embeddings of its own
        self.row_embeddings, self.column_embeddings = learned.row_embeddings, learned.column_embeddings
        self.side = side

    def forward(self, features: Tensor) -> Tensor:
        """Features (B, C, H, W) -> position embeddings that can be added to them."""
        side = self.side
        if features.shape[-2:] == (side, side):
            positions: Tensor = super().forward(features)
            return positions
        table = super().forward(features.new_empty(1, 1, side, side))
        return F.interpolate(table, features.shape[-2:], mode="bilinear", align_corners=False)


class Florence2ForGrounding(Florence2ForConditionalGeneration):
    """Florence-2 with both readings; see the module's docstring."""

    config_class = Florence2GroundingConfig

    def __init__(self, config: Florence2GroundingConfig) -> None:
        super().__init__(config)
        self.grounding = self.new_grounding_head()
        self.side = config.tile_size // math.prod(config.vision_config.patch_stride)  # cells of the tile, each way
        projector = self.model.multi_modal_projector
        projector.image_position_embed = RelativePositions(projector.image_position_embed, self.side)
        for name, channels in (config.pruned_ffn or {}).items():
            block = self.get_submodule(name)
            first, second = next(names for names in FEED_FORWARDS if hasattr(block, names[0]))
            setattr(block, first, nn.Linear(getattr(block, first).in_features, channels))
            setattr(block, second, nn.Linear(channels, getattr(block, second).out_features))
        self.box_slots: nn.Parameter | None = None
        if config.box_slots:
            self.add_box_slots()
        self.post_init()

    def add_box_slots(self) -> None:
        """Gives the decoder the inputs (2, D) that stand in place of a box's y1 and x2 while these are not known.

        Behind x1 they are where x2 and y2 are read. (Gloeckle et al., Better & Faster Large Language Models via
        Multi-token Prediction, 2024, reads several tokens at once with heads of their own instead.)
        """
        self.config.box_slots = True
        width = self.config.text_config.d_model
        self.box_slots = nn.Parameter(torch.randn(2, width) * self.location_embeddings.detach().std())

    def new_grounding_head(self) -> GroundingHead:
        """A head that has learned nothing, as the configuration wants it."""
        early_channels = self.config.vision_config.embed_dim[-2] if self.config.fine_tokens else None
        return GroundingHead(self.config.text_config.d_model, early_channels)

    @property
    def grounding_stride(self) -> int:
        """Pixels that a token of the grounding reading stands for, each way."""
        stride: int = math.prod(self.config.vision_config.patch_stride)
        return stride // 2 if self.config.fine_tokens else stride

    @property
    def location_embeddings(self) -> Tensor:
        """The (1000, D) embeddings of <loc_0> .. <loc_999>, shared with the decoder's vocabulary."""
        first = self.config.location_token_id
        embeddings: Tensor = self.get_input_embeddings().weight
        return embeddings[first : first + GroundingHead.num_bins]

    def normalise(self, image: Tensor) -> Tensor:
        """Tiles (B, S, S, 3) uint8 RGB -> pixel_values (B, 3, S, S)."""
        scaled = image.permute(0, 3, 1, 2).to(self.device, self.dtype) / 255.0
        mean, std = (scaled.new_tensor(c).view(-1, 1, 1) for c in (self.config.image_mean, self.config.image_std))
        return (scaled - mean) / std

    def look(self, pixel_values: Tensor) -> tuple[Tensor, Tensor]:
        """pixel_values (B, 3, S, S) -> projected image tokens (B, 1 + N, D), the mean first, and early (B, C, H, W).

        `early` is what DaViT's stage before the last gives. The rest is Florence2Model.get_image_features.
        """
        tower = self.model.vision_tower
        early = states = pixel_values
        for convolution, blocks in zip(tower.convs, tower.blocks, strict=True):
            early, states = states, convolution(states)
            for block in blocks:
                states = block(states)
        return self.model.multi_modal_projector(states), early

    def image_features(self, pixel_values: Tensor) -> Tensor:
        """pixel_values (B, 3, S, S) -> projected image tokens (B, 1 + N, D), the spatial mean first."""
        return self.look(pixel_values)[0]

    def encode_image(self, features: Tensor) -> Tensor:
        """Projected image tokens (B, 1 + N, D) -> encoder states of the N grid tokens (B, N, D)."""
        placed = self.place(features, features.shape[1])
        states: Tensor = self.model.language_model.encoder(inputs_embeds=placed).last_hidden_state
        return states[:, 1:]

    def grounding_tokens(self, features: Tensor, early: Tensor) -> Tensor:
        """What `look` gives -> the tokens (B, M, D) that are matched and propose boxes, row by row."""
        states = self.encode_image(features)
        return states if self.grounding.fine is None else self.grounding.fine(states, early)

    def place(self, embeddings: Tensor, image_tokens: int) -> Tensor:
        """Encoder inputs (B, L, D), first an image's tokens, then a prompt's if any, at the places of the whole tile.

        BART adds its learned position p to the token p. A smaller picture has fewer tokens: without more each would
        get the position of another place, and the prompt those of cells. What is added here makes up for it: a cell
        gets the position interpolated at its place in the tile's grid, a prompt token the one it has behind a whole
        tile. A whole tile's inputs are returned as they came.
        """
        cells, side = self.side**2, math.isqrt(image_tokens - 1)
        if side == self.side:
            return embeddings
        positions = self.model.language_model.encoder.embed_positions
        given: Tensor = positions(embeddings)  # (B, L, D), the same for each
        tokens = cells + 1 + embeddings.shape[1] - image_tokens
        learned: Tensor = positions(embeddings.new_empty(1, tokens))[0]  # the mean, the tile's cells, the prompt
        grid = learned[1 : cells + 1].T.unflatten(1, (self.side, self.side))[None]
        small = F.interpolate(grid, (side, side), mode="bilinear", align_corners=False)[0].flatten(1).T
        return embeddings + (torch.cat([learned[:1], small, learned[cells + 1 :]]) - given)

    def encode_prompts(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Token ids and mask (P, L) -> unit prompt embeddings (P, D)."""
        input_ids, attention_mask = input_ids.to(self.device), attention_mask.to(self.device)
        encoder = self.model.language_model.encoder
        states = encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        embeddings: Tensor = self.grounding.pool_prompt(states, attention_mask)
        return embeddings

    def centres(self, num_tokens: int) -> Tensor:
        """Centres (N, 2) of the tokens of a square tile, row by row, as fractions of the tile."""
        side = round(num_tokens**0.5)
        steps = (torch.arange(side, device=self.device, dtype=self.dtype) + 0.5) / side
        return torch.stack([steps.repeat(side), steps.repeat_interleave(side)], -1)

    def detect(self, image: Tensor, prompt_embeddings: Tensor) -> tuple[Tensor, Tensor]:
        """Tiles and prompts to the `boxes_per_tile` boxes with the best score for any prompt.

        Args:
            image: (B, S, S, 3) uint8 RGB.
            prompt_embeddings: (B, P, D) from `encode_prompts`; rows of zeros are padding and score 0.

        Returns:
            boxes (B, K, 4), xyxy as fractions of the tile within 0..1, and scores (B, K, P) in 0..1.
        """
        states = self.grounding_tokens(*self.look(self.normalise(image)))
        asked = (prompt_embeddings != 0).any(-1).to(states.dtype)[:, None]  # (B, 1, P)
        scores = self.grounding.match(states, prompt_embeddings).sigmoid() * asked
        best = scores.amax(-1).topk(self.config.boxes_per_tile, dim=1).indices  # (B, K)
        chosen = states.gather(1, best[..., None].expand(-1, -1, states.shape[-1]))
        centres = self.centres(states.shape[1])[best]  # (B, K, 2)
        boxes = self.grounding.read_boxes(self.grounding.edges(chosen, self.location_embeddings), centres)
        return boxes.clamp(0, 1), scores.gather(1, best[..., None].expand(-1, -1, scores.shape[-1]))


Florence2GroundingConfig.register_for_auto_class()
Florence2ForGrounding.register_for_auto_class("AutoModel")
