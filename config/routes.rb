# frozen_string_literal: true

actions = TaskerCore::Operations::Action

TaskerCore::Engine.routes.draw do
  # The pages. They are HTML, whatever the path's ending is.
  scope module: "dashboard", as: "dashboard", format: false do
    root to: "overview#show"
    get "dashboard-:digest.css", to: "stylesheets#show", as: "stylesheet", constraints: { digest: /\h{16}/ }
    resources :workflows, only: %i[index show], constraints: { id: /\d{1,18}/ }
    resources :tasks, only: %i[index show] do
      get :graph, on: :member
      operations = { operation: Regexp.union(actions.of(:task).map { |action| action.name.to_s }) }
      get ":operation", to: "actions#new", as: "action", constraints: operations
      post ":operation", to: "actions#create", constraints: operations
      get "steps/:name", to: "steps#show", as: "step"
      operations = { operation: Regexp.union(actions.of(:step).map { |action| action.name.to_s }) }
      get "steps/:name/:operation", to: "actions#new", as: "step_action", constraints: operations
      post "steps/:name/:operation", to: "actions#create", constraints: operations
    end
  end

  # The API. It is JSON, whatever the path's ending is. config/openapi.yaml describes all of these routes except those
  # of the operator's actions.
  scope "api/v1", module: "v1", as: "v1", format: false do
    get "openapi.json", to: "openapi#show", as: "openapi"
    get "metrics", to: "metrics#show"
    get "health/live", to: "health#live"
    get "health/ready", to: "health#ready"
    get "health/status", to: "health#summary"

    resources :tasks, only: %i[index create show] do
      member do
        actions.of(:task).each { |action| post action.name, to: "actions#create", operation: action.name }
        get :graph
        get :why
      end
      resources :attempts, only: :index
      resources :steps, only: %i[index show], param: :name do
        member do
          actions.of(:step).each { |action| post action.name, to: "actions#create", operation: action.name }
          get :attempts, to: "attempts#index"
        end
      end
    end

    get "workflows", to: "workflows#index"
    names = { namespace: /\w+/, name: /\w+/ }
    get "workflows/:namespace/:name", to: "workflows#show", as: "workflow", constraints: names
    version = { **names, version: %r{[^/]+} } # any text without spaces
    get "workflows/:namespace/:name/:version", to: "workflows#version", as: "workflow_version", constraints: version
    get "workflows/:namespace/:name/:version/graph", to: "workflows#graph", as: "workflow_graph", constraints: version

    match "(*path)", to: "not_found#show", via: :all
  end
end
