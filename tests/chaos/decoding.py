"""What becomes of the bytes of a picture in the decoding that requests take; without a request."""

from gateway.errors import ImageError, MediaTypeError, TooLargeError
from gateway.pictures.picture import WholePicture, open_picture
from gateway.settings import Settings


def decoded_to(data: bytes, settings: Settings) -> str:
    """The kind of picture, or of the refusal; what is no refusal is raised."""
    try:
        picture = open_picture(data, settings).decode()
        if not isinstance(picture, WholePicture):  # a line scan is read as it is asked for
            picture.thumbnail(64)
        return type(picture).__name__
    except (ImageError, MediaTypeError, TooLargeError) as error:
        return type(error).__name__
