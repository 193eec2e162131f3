import torch
from torch.nn import functional

from fewshot_node.vision.debias import positional_basis, project_out


def places(height, width, channels, strength):
    """A part of each feature that is known: the place, in two directions of its own."""
    rows, columns = torch.linspace(-1, 1, height), torch.linspace(-1, 1, width)
    part = torch.zeros(1, channels, height, width)
    part[0, 0] = strength * rows[:, None]
    part[0, 1] = strength * columns[None, :]
    return part


def test_the_directions_of_the_place_are_found_and_nothing_else():
    grey = torch.randn(1, 6, 1, 1, generator=torch.Generator().manual_seed(0))
    basis = positional_basis(grey + places(5, 7, 6, 0.3), 4)
    assert basis.shape == (6, 2)
    torch.testing.assert_close(basis.T @ basis, torch.eye(2), atol=1e-5, rtol=0)
    assert basis[2:].abs().max() < 1e-5


def test_a_network_that_does_not_know_the_place_keeps_its_features():
    grey = torch.randn(1, 6, 1, 1, generator=torch.Generator().manual_seed(0)).expand(1, 6, 4, 4)
    basis = positional_basis(functional.normalize(grey, dim=1), 3)
    assert basis.shape == (6, 0)
    features = functional.normalize(torch.randn(2, 6, 3, 3, generator=torch.Generator().manual_seed(1)), dim=1)
    torch.testing.assert_close(project_out(features, basis), features)


def test_what_is_left_is_the_content_alone():
    content = torch.zeros(1, 6, 5, 7)
    content[0, 3, :, :3], content[0, 4, :, 3:] = 1.0, 1.0
    basis = positional_basis(places(5, 7, 6, 0.3), 2)
    cleaned = project_out(functional.normalize(content + places(5, 7, 6, 0.3), dim=1), basis)
    torch.testing.assert_close(cleaned, content, atol=1e-5, rtol=0)
