"""The straight way for the noise: exact on pure noise, and the last layer's least squares."""

import pytest
import torch
from recipe.noise_path import fit_output, open_noise_path, read_noise_path
from recipe.unet import PATH_GROUPS, build_unet


@pytest.fixture
def unet():
    torch.manual_seed(0)
    return build_unet().eval()


def conditions(count):
    return {
        "timestep": torch.full((count,), 950),
        "encoder_hidden_states": torch.zeros(count, 8, 128),
        "encoder_hidden_states_1": torch.zeros(count, 4, 128),
    }


def test_noise_passes_unchanged(unet):
    carriers = open_noise_path(unet, PATH_GROUPS)
    with torch.no_grad():
        unet.conv_out.weight.zero_()
        unet.conv_out.bias.zero_()
        read_noise_path(unet, carriers)
        noise = torch.randn(2, 8, 64, 16)
        found = unet(noise, **conditions(len(noise))).sample
    # Energy of what is lost, half of what a linear denoiser leaves at the noisiest level that
    # is judged. The scale of plain group normalisation alone would cost 2e-4.
    assert (found - noise).square().mean() < 1e-4


def test_each_latent_channel_is_carried_with_both_signs(unet):
    carriers = open_noise_path(unet, PATH_GROUPS)
    assert len(carriers) == len(set(carriers)) == 16
    assert {channel // 4 for channel in carriers} == set(PATH_GROUPS)


def test_too_few_groups_are_refused(unet):
    with pytest.raises(ValueError, match="hold no 16 copies"):
        open_noise_path(unet, (0, 1))


def test_last_layer_is_the_least_squares_solution(unet):
    noisy = torch.randn(4, 8, 64, 16)
    with torch.no_grad():
        wanted = unet(noisy, **conditions(4)).sample
        unet.conv_out.weight.normal_()
    fit_output(
        unet, [(lambda: unet(noisy, **conditions(4)), wanted, torch.tensor([1.0, 3.0, 1.0, 2.0]))]
    )
    with torch.no_grad():
        found = unet(noisy, **conditions(4)).sample
    assert (found - wanted).square().mean() < 1e-3 * wanted.square().mean()
