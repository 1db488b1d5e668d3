# frozen_string_literal: true

Rails.application.routes.draw do
  mount TaskerCore::Engine => "/tasker"
  post "/relays", to: "relays#create"
  resources :lines, only: %i[create show] do
    post :cancel, on: :member
    %i[permitted unnamed given].each { |action| post action, on: :collection }
  end
end
