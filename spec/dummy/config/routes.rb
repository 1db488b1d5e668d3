# frozen_string_literal: true

Rails.application.routes.draw do
  post "/relays", to: "relays#create"
end
